// What the accounting of the paged store costs at 100,000 pages: free list, block tables, reference
// counts, prefix index, defragmentation. Each benchmark checks its store's invariants once, after
// timing.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "memory/page_store.hpp"
#include "memory/prefix_index.hpp"

using namespace quire;

namespace {

constexpr std::uint32_t num_pages = 100000;
constexpr std::uint32_t page_tokens = 16;

/// A store about half full with sequences of 1 to 40 pages, of which every second one has ended:
/// holes of all sizes, as after hours of serving.
struct busy_store {
  page_store store = *page_store::make(num_pages, page_tokens);
  std::vector<sequence_id> live;
  std::vector<page_copy> copies;
  std::mt19937 random{1};

  busy_store() {
    std::vector<sequence_id> all;
    while (store.free_pages() > 50) all.push_back(add((1 + random() % 40) * page_tokens));
    for (std::size_t i = 0; i < all.size(); ++i)
      if (i % 2 == 0)
        store.free(all[i]);
      else
        live.push_back(all[i]);
  }
  sequence_id add(std::uint64_t tokens) {
    const sequence_id id = store.allocate(tokens).value();
    (void)store.update_tokens(id, tokens, copies);
    copies.clear();
    return id;
  }
  void check(benchmark::State& state) const {
    if (const auto sound = store.check(); !sound)
      state.SkipWithError(sound.error().message.c_str());
  }
};

void allocate_and_free(benchmark::State& state) {
  busy_store s;
  const auto tokens = static_cast<std::uint64_t>(state.range(0)) * page_tokens;
  for (auto _ : state) {
    const auto id = s.store.allocate(tokens);
    s.store.free(*id);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  s.check(state);
}

// One decode step of many streams: each makes room for a token and stores it.
void append_token(benchmark::State& state) {
  busy_store s;
  s.live.resize(static_cast<std::size_t>(state.range(0)));
  std::vector<std::uint64_t> stored(s.live.size(), 0);
  for (std::size_t i = 0; i < s.live.size(); ++i) stored[i] = *s.store.tokens(s.live[i]);
  const std::vector<std::uint64_t> begin = stored;
  for (auto _ : state)
    for (std::size_t i = 0; i < s.live.size(); ++i) {
      if (stored[i] == begin[i] + 64) {
        (void)s.store.truncate(s.live[i], begin[i]);
        stored[i] = begin[i];
      }
      (void)s.store.extend(s.live[i], 1);
      (void)s.store.update_tokens(s.live[i], ++stored[i], s.copies);
    }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  s.check(state);
}

void fork_and_free(benchmark::State& state) {
  busy_store s;
  const sequence_id id = s.add(static_cast<std::uint64_t>(state.range(0)) * page_tokens);
  for (auto _ : state) s.store.free(*s.store.fork(id));
  state.SetItemsProcessed(state.iterations() * state.range(0));
  s.check(state);
}

// fork, un-share the last page, free: what a diverging branch costs beyond its table.
void diverge(benchmark::State& state) {
  busy_store s;
  const sequence_id id = s.add(60 * page_tokens + 5);
  for (auto _ : state) {
    const sequence_id branch = *s.store.fork(id);
    benchmark::DoNotOptimize(s.store.page_for_writing(branch, 60 * page_tokens + 5));
    s.store.free(branch);
  }
  s.check(state);
}

void defragment_step(benchmark::State& state) {
  busy_store s;
  std::size_t moved = 0;
  for (auto _ : state) {
    const std::uint32_t now = s.store.defragment(8, s.copies);
    moved += now;
    s.copies.clear();
    (void)s.store.take_moves();
    if (now < 8) {  // packed: make new holes
      state.PauseTiming();
      s = busy_store();
      state.ResumeTiming();
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(moved));
  s.check(state);
}

void compact_table(benchmark::State& state) {
  busy_store s;
  std::size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(s.store.compact(s.live[next++ % s.live.size()], s.copies));
    s.copies.clear();
    (void)s.store.take_moves();
  }
  s.check(state);
}

void should_defragment(benchmark::State& state) {
  busy_store s;
  for (auto _ : state) benchmark::DoNotOptimize(s.store.should_defragment());
}

void fragmentation(benchmark::State& state) {
  busy_store s;
  for (auto _ : state) benchmark::DoNotOptimize(s.store.fragmentation());
}

void million_sequences(benchmark::State& state) {
  for (auto _ : state) {
    page_store store = *page_store::make(num_pages, page_tokens);
    std::vector<sequence_id> live(10000);
    for (std::uint32_t i = 0; i < 1000000; ++i) {
      sequence_id& slot = live[i % live.size()];
      store.free(slot);
      slot = *store.allocate(i * 7919u % 150u);
    }
    benchmark::DoNotOptimize(store.free_pages());
  }
  state.SetItemsProcessed(state.iterations() * 1000000);
}

/// An index over all pages: texts of 25 pages that share their first 5.
struct busy_index {
  page_store store = *page_store::make(num_pages, page_tokens);
  prefix_index index{store, 1};
  std::vector<page_copy> copies;

  static std::vector<token_id> text(std::uint32_t number) {
    std::vector<token_id> tokens(25 * page_tokens);
    for (std::uint32_t i = 0; i < tokens.size(); ++i)
      tokens[i] = token_id{i < 5 * page_tokens ? i : number * 1000 + i};
    return tokens;
  }
  void run(std::uint32_t number) {
    const auto tokens = text(number);
    const auto prefix = index.lookup(tokens, tokens.size());
    const auto id = store.allocate_shared(prefix, tokens.size());
    if (!id) return;
    (void)store.update_tokens(*id, tokens.size(), copies);
    index.insert(tokens, *store.table(*id), static_cast<std::uint32_t>(prefix.size()));
    store.free(*id);
  }
  std::uint32_t fill() {
    std::uint32_t number = 0;
    while (store.free_pages() >= 25) run(number++);
    return number;
  }
};

void index_lookup(benchmark::State& state) {
  busy_index s;
  const std::uint32_t texts = s.fill();
  std::uint32_t number = 0;
  const auto one = busy_index::text(texts / 2);
  for (auto _ : state) {
    const auto pages = s.index.lookup(one, one.size());
    number += static_cast<std::uint32_t>(pages.size());
  }
  if (number != state.iterations() * 25) state.SkipWithError("a known text was not found");
  state.SetItemsProcessed(state.iterations() * 25);
}

// A new text in a full pool: evict what it needs, take the pages, index them, end.
void index_evict_and_insert(benchmark::State& state) {
  busy_index s;
  std::uint32_t number = s.fill();
  for (auto _ : state) {
    if (s.index.evict(20) != 20) state.SkipWithError("too few pages were evicted");
    s.run(number++);
  }
  state.SetItemsProcessed(state.iterations() * 20);
  const auto held = s.index.references();
  if (!s.store.check(held)) state.SkipWithError("the store is not sound");
}

BENCHMARK(allocate_and_free)->Arg(1)->Arg(8)->Arg(64);
BENCHMARK(append_token)->Arg(1)->Arg(256)->Arg(2048);
BENCHMARK(fork_and_free)->Arg(8)->Arg(64)->Arg(512);
BENCHMARK(diverge);
BENCHMARK(defragment_step);
BENCHMARK(compact_table);
BENCHMARK(should_defragment);
BENCHMARK(fragmentation);
BENCHMARK(million_sequences)->Unit(benchmark::kMillisecond);
BENCHMARK(index_lookup);
BENCHMARK(index_evict_and_insert);

}  // namespace

BENCHMARK_MAIN();
