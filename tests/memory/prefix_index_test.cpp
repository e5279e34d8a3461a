// Expectations: arithmetic, and a search through all indexed prefixes one by one.
#include "memory/prefix_index.hpp"

#include <map>
#include <random>
#include <set>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

using tokens = std::vector<token_id>;

tokens counting(std::uint32_t from, std::uint32_t count) {
  tokens all;
  for (std::uint32_t i = 0; i < count; ++i) all.push_back(token_id{from + i});
  return all;
}

struct fixture {
  page_store store;
  std::vector<page_copy> copies;
  prefix_index index;

  explicit fixture(std::uint32_t pages = 64, std::uint32_t page_tokens = 4,
                   std::uint64_t hash_mask = ~std::uint64_t{0})
      : store(*page_store::make(pages, page_tokens)), index(store, 1, hash_mask) {}
  fixture(const fixture&) = delete;

  /// A sequence that took what the index has of `text` and stored all of it.
  sequence_id run(const tokens& text) {
    const auto prefix = index.lookup(text, text.size());
    const sequence_id id = store.allocate_shared(prefix, text.size()).value();
    REQUIRE(store.update_tokens(id, text.size(), copies).has_value());
    index.insert(text, *store.table(id));
    return id;
  }
  void finish(const tokens& text) { store.free(run(text)); }
  void require_sound() {
    const auto held = index.references();
    REQUIRE(store.check(held).has_value());
    REQUIRE(index.stats().pages == held.size());
  }
};

}  // namespace

TEST_CASE("an empty index finds nothing and counts the miss", "[memory]") {
  fixture f;
  REQUIRE(f.index.lookup(counting(0, 20), 20).empty());
  REQUIRE(f.index.stats().misses == 1);
  REQUIRE(f.index.stats().hits == 0);
}

TEST_CASE("a prefix is shared while its owner still runs", "[memory]") {
  fixture f;
  const tokens text = counting(0, 10);
  const sequence_id owner = f.run(text);
  const auto found = f.index.lookup(text, text.size());
  REQUIRE(found.size() == 2);  // two full pages of four
  REQUIRE(found[0] == f.store.table(owner).value()[0]);
  REQUIRE(found[1] == f.store.table(owner).value()[1]);
  REQUIRE(f.index.stats().hits == 1);
  REQUIRE(f.index.stats().tokens_saved == 8);
  REQUIRE(f.store.info(found[0]).ref_count == 2);
  f.require_sound();
}

TEST_CASE("a prefix outlives its owner", "[memory]") {
  fixture f;
  f.finish(counting(0, 10));
  REQUIRE(f.store.stats().used_pages == 2);  // the partly filled page is gone
  REQUIRE(f.index.lookup(counting(0, 10), 10).size() == 2);
  f.require_sound();
}

TEST_CASE("only the common full pages are found", "[memory]") {
  fixture f;
  f.finish(counting(0, 16));
  tokens other = counting(0, 16);
  other[9] = token_id{77};
  REQUIRE(f.index.lookup(other, 16).size() == 2);
  REQUIRE(f.index.lookup(counting(0, 7), 7).size() == 1);
  REQUIRE(f.index.lookup(counting(4, 8), 8).empty());  // the same tokens, another beginning
}

TEST_CASE("lookup gives at most the tokens asked for", "[memory]") {
  fixture f;
  f.finish(counting(0, 16));
  REQUIRE(f.index.lookup(counting(0, 16), 15).size() == 3);
  REQUIRE(f.index.lookup(counting(0, 16), 3).empty());
  REQUIRE(f.index.stats().tokens_saved == 12);
}

TEST_CASE("match_pages counts nothing and refreshes nothing", "[memory]") {
  fixture f;
  f.finish(counting(0, 4));
  f.finish(counting(100, 4));
  REQUIRE(f.index.match_pages(counting(0, 9), 9) == 1);
  const prefix_stats stats = f.index.stats();
  REQUIRE(stats.lookups == 2);
  REQUIRE(f.index.evict(1) == 1);  // the first is still the oldest
  REQUIRE(f.index.match_pages(counting(0, 9), 9) == 0);
  REQUIRE(f.index.match_pages(counting(100, 4), 4) == 1);
}

TEST_CASE("hashes that collide do not confuse texts", "[memory]") {
  fixture f(64, 4, 0);  // every hash is 0
  f.finish(counting(0, 12));
  f.finish(counting(50, 12));
  REQUIRE(f.index.stats().pages == 6);
  REQUIRE(f.index.lookup(counting(0, 12), 12).size() == 3);
  REQUIRE(f.index.lookup(counting(50, 12), 12).size() == 3);
  REQUIRE(f.index.lookup(counting(51, 12), 12).empty());
  tokens mixed = counting(0, 4);
  const tokens second = counting(54, 4);
  mixed.insert(mixed.end(), second.begin(), second.end());
  REQUIRE(f.index.lookup(mixed, 8).size() == 1);  // pages of two texts make no prefix
}

TEST_CASE("a page that is partly filled is not indexed", "[memory]") {
  fixture f;
  const tokens text = counting(0, 8);
  const sequence_id id = f.store.allocate(8).value();
  REQUIRE(f.store.update_tokens(id, 6, f.copies).has_value());
  f.index.insert(text, *f.store.table(id));
  REQUIRE(f.index.stats().pages == 1);
}

TEST_CASE("a growing sequence is indexed page by page", "[memory]") {
  fixture f;
  const tokens text = counting(0, 40);
  const sequence_id id = f.store.allocate(40).value();
  for (std::uint32_t stored = 1; stored <= 40; ++stored) {
    REQUIRE(f.store.update_tokens(id, stored, f.copies).has_value());
    const std::span<const token_id> so_far(text.data(), stored);
    f.index.insert(so_far, *f.store.table(id), stored / 4 > 0 ? stored / 4 - 1 : 0);
    REQUIRE(f.index.stats().pages == stored / 4);
  }
  REQUIRE(f.index.match_pages(text, 40) == 10);
  f.require_sound();
}

TEST_CASE("a sequence that computed a known prefix itself adds what is new behind it", "[memory]") {
  fixture f;
  f.run(counting(0, 8));
  const tokens longer = counting(0, 16);
  const sequence_id own = f.store.allocate(16).value();  // no lookup: pages of its own
  REQUIRE(f.store.update_tokens(own, 16, f.copies).has_value());
  f.index.insert(longer, *f.store.table(own), 2);
  REQUIRE(f.index.stats().pages == 4);
  REQUIRE(f.index.match_pages(longer, 16) == 4);
  f.require_sound();
}

TEST_CASE("eviction takes the least recently used first, leaf before parent", "[memory]") {
  fixture f;
  f.finish(counting(0, 8));           // older: two pages
  f.finish(counting(100, 4));         // newer: one
  f.index.lookup(counting(0, 4), 4);  // refreshes the older one's first page
  REQUIRE(f.index.evictable_pages() == 3);
  REQUIRE(f.index.evict(1) == 1);
  REQUIRE(f.index.match_pages(counting(0, 8), 8) == 1);  // its leaf went
  REQUIRE(f.index.evict(1) == 1);
  REQUIRE(f.index.match_pages(counting(100, 4), 4) == 0);
  REQUIRE(f.index.match_pages(counting(0, 8), 8) == 1);
  REQUIRE(f.index.evict(5) == 1);
  REQUIRE(f.store.free_pages() == 64);
  REQUIRE(f.index.stats().evictions == 3);
  f.require_sound();
}

TEST_CASE("what a sequence holds is not evicted, nor what leads to it", "[memory]") {
  fixture f;
  const sequence_id running = f.run(counting(0, 12));
  f.finish(counting(100, 8));
  REQUIRE(f.index.evictable_pages() == 2);
  REQUIRE(f.index.evict(100) == 2);
  REQUIRE(f.index.match_pages(counting(0, 12), 12) == 3);
  f.store.free(running);
  REQUIRE(f.index.evictable_pages() == 3);
  REQUIRE(f.index.evict(100) == 3);
  REQUIRE(f.store.free_pages() == 64);
}

TEST_CASE("an idle parent of a running page stays until that ends", "[memory]") {
  fixture f;
  f.finish(counting(0, 4));
  const tokens longer = counting(0, 8);
  const sequence_id own = f.store.allocate(8).value();  // holds a first page of its own
  REQUIRE(f.store.update_tokens(own, 8, f.copies).has_value());
  f.index.insert(longer, *f.store.table(own));
  REQUIRE(f.index.stats().pages == 2);
  REQUIRE(f.index.evictable_pages() == 0);
  REQUIRE(f.index.evict(2) == 0);
  f.store.free(own);
  REQUIRE(f.index.evictable_pages() == 2);
}

TEST_CASE("a leased page is not evicted before the lease ends", "[memory]") {
  fixture f;
  const sequence_id id = f.run(counting(0, 4));
  const std::vector<page_id> leased{f.store.table(id).value()[0]};
  f.store.lease(leased);
  f.store.free(id);
  REQUIRE(f.index.evictable_pages() == 0);
  REQUIRE(f.index.evict(1) == 0);
  f.store.unlease(leased);
  REQUIRE(f.index.evictable_pages() == 1);
  REQUIRE(f.index.evict(1) == 1);
}

TEST_CASE("the index follows pages that move", "[memory]") {
  fixture f;
  f.finish(counting(500, 12));
  f.finish(counting(0, 12));
  REQUIRE(f.index.evict(3) == 3);  // the older text: the front is free
  f.copies.clear();
  REQUIRE(f.store.defragment(100, f.copies) == 3);
  f.index.on_moves(f.store.take_moves());
  const auto found = f.index.lookup(counting(0, 12), 12);
  REQUIRE(found == std::vector<page_id>{page_id{0}, page_id{1}, page_id{2}});
  f.require_sound();
  REQUIRE(f.index.evict(3) == 3);
  REQUIRE(f.store.free_pages() == 64);
}

TEST_CASE("what happens between a move and its report is not lost", "[memory]") {
  fixture f;
  const sequence_id front = f.run(counting(500, 4));
  const sequence_id running = f.run(counting(0, 4));
  f.store.free(front);
  f.index.evict(1);
  f.copies.clear();
  REQUIRE(f.store.defragment(100, f.copies) == 1);
  f.store.free(running);
  f.index.on_moves(f.store.take_moves());
  REQUIRE(f.index.evictable_pages() == 1);
  REQUIRE(f.index.evict(1) == 1);
}

TEST_CASE("clear gives every page back, held or not", "[memory]") {
  fixture f;
  const sequence_id running = f.run(counting(0, 12));
  f.finish(counting(0, 20));
  f.finish(counting(100, 20));
  f.index.clear();
  REQUIRE(f.index.stats().pages == 0);
  REQUIRE(f.index.evictable_pages() == 0);
  REQUIRE(f.store.stats().used_pages == 3);
  f.store.free(running);
  REQUIRE(f.store.free_pages() == 64);
  f.finish(counting(0, 12));
  REQUIRE(f.index.match_pages(counting(0, 12), 12) == 3);
}

TEST_CASE("an index that ends leaves the store without its references", "[memory]") {
  page_store store = *page_store::make(8, 4);
  std::vector<page_copy> copies;
  const sequence_id id = store.allocate(8).value();
  REQUIRE(store.update_tokens(id, 8, copies).has_value());
  {
    prefix_index index(store, 7);
    index.insert(counting(0, 8), *store.table(id));
    REQUIRE(store.info(page_id{0}).ref_count == 2);
    const prefix_index moved = std::move(index);
    REQUIRE(moved.match_pages(counting(0, 8), 8) == 2);
  }
  REQUIRE(store.info(page_id{0}).ref_count == 1);
  store.free(id);
  REQUIRE(store.check().has_value());
}

TEST_CASE("random texts are found as a search of all texts finds them", "[memory]") {
  const auto hash_mask = GENERATE(~std::uint64_t{0}, std::uint64_t{7});
  const auto seed = GENERATE(1u, 2u, 3u);
  CAPTURE(seed, hash_mask);
  std::mt19937 random(seed);
  fixture f(40, 2, hash_mask);
  std::map<sequence_id, tokens> running;
  for (int step = 0; step < 4000; ++step) {
    const auto dice = random() % 10;
    if (dice < 6) {
      tokens text;  // from few letters, so that prefixes repeat
      for (auto length = random() % 12; length > 0; --length)
        text.push_back(token_id{static_cast<std::uint32_t>(random() % 2)});
      // What is found must be a page whose own tokens and all before it are those of the text.
      const auto found = f.index.lookup(text, text.size());
      REQUIRE(found.size() == f.index.match_pages(text, text.size()));
      const std::uint32_t missing =
          f.store.pages_for(text.size()) - static_cast<std::uint32_t>(found.size());
      if (missing > f.store.free_pages() + f.index.evictable_pages()) continue;
      const sequence_id holder = f.store.allocate_shared(found, 0).value();  // pins what was found
      if (missing > f.store.free_pages()) f.index.evict(missing - f.store.free_pages());
      if (missing > f.store.free_pages()) {  // evictable before, but now held
        f.store.free(holder);
        continue;
      }
      const sequence_id id = f.store.allocate_shared(found, text.size()).value();
      f.store.free(holder);
      REQUIRE(f.store.update_tokens(id, text.size(), f.copies).has_value());
      f.index.insert(text, *f.store.table(id));
      REQUIRE(f.index.match_pages(text, text.size()) == text.size() / 2);
      running[id] = text;
    } else if (dice < 9 && !running.empty()) {
      f.store.free(running.begin()->first);
      running.erase(running.begin());
    } else {
      f.copies.clear();
      f.store.defragment(4, f.copies);
      f.index.on_moves(f.store.take_moves());
    }
    for (const auto& [id, text] : running)
      REQUIRE(f.index.match_pages(text, text.size()) == text.size() / 2);
    f.require_sound();
    REQUIRE(f.index.evictable_pages() <= f.index.stats().pages);
  }
  for (const auto& entry : running) f.store.free(entry.first);
  const std::uint32_t idle = f.index.evictable_pages();
  REQUIRE(idle == f.index.stats().pages);  // nobody runs: all can go
  REQUIRE(f.index.evict(UINT32_MAX) == idle);
  REQUIRE(f.store.free_pages() == 40);
}
