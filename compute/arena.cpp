// The published region is two words and, for each thread, a range of chunks that nobody has
// claimed: its share, which it claims from the front, so that what it reads lies in one piece of
// memory. A thread whose share is done claims from the ends of the others'. A claim is a
// compare-and-swap that shortens a range; it can only succeed on the region that is open now, and
// that region cannot end before the claimed chunk has been run. So a late or stale worker needs no
// epoch.
#include "compute/arena.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

#include "compute/read_ahead.hpp"
#include "core/check.hpp"

namespace quire {
namespace {

constexpr std::size_t cache_line = 64;

// Regions are counted in steps that leave room for the number of threads.
constexpr std::uint64_t region_step = std::uint64_t{1} << 16;

// Lines that a thread asks for between two looks for work. Asking for more than memory delivers in
// that time is in vain: processors drop such requests.
constexpr std::size_t lines_per_look = 24;

// Spins before a thread offers its core to others: some tens of microseconds of pauses.
constexpr int spins_before_yield = 1500;

void pause_core() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// A range of chunks in one word: the first, and the end in the upper half.
constexpr std::uint64_t one_end = std::uint64_t{1} << 32;
constexpr std::uint64_t range_of(std::size_t first, std::size_t end) noexcept {
  return end * one_end | first;
}
constexpr std::size_t first_of(std::uint64_t range) noexcept {
  return range % one_end;
}
constexpr std::size_t end_of(std::uint64_t range) noexcept {
  return range / one_end;
}

// Waits a moment; gives the core away when the wait has been long.
class waiter {
 public:
  void wait() noexcept {
    if (spins_ < spins_before_yield) {
      ++spins_;
      pause_core();
    } else {
      std::this_thread::yield();
    }
  }
  void reset() noexcept { spins_ = 0; }

 private:
  int spins_ = 0;
};

std::size_t allowed_cores() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return static_cast<std::size_t>(count);
  }
  return std::max<std::size_t>(1, std::thread::hardware_concurrency());
}

}  // namespace

struct arena::impl {
  explicit impl(std::size_t threads)
      : num_threads(threads),
        tasks(static_cast<int>(threads)),
        shares(threads),
        expected_next(threads) {
    QUIRE_CHECK(threads < region_step, "an arena has fewer than 65,536 threads");
    if (threads > allowed_cores())
      parallelism.emplace(tbb::global_control::max_allowed_parallelism, threads);
  }

  const std::size_t num_threads;
  // TBB lends at most one worker per core unless told; a caller who asks for more gets them.
  std::optional<tbb::global_control> parallelism;
  tbb::task_arena tasks;
  tbb::task_group group;

  std::vector<tbb::task_handle> workers;

  // The open region: written by the owner while no share has chunks, read only by holders of a
  // claim.
  void* body = nullptr;
  call_function call = nullptr;

  struct alignas(cache_line) share {
    std::atomic<std::uint64_t> unclaimed{0};
    // What the thread will read after this region; 0: it goes on with what it was told before.
    std::atomic<std::uint64_t> expected{0};
  };
  std::vector<share> shares;                 // one per thread
  std::vector<std::uint64_t> expected_next;  // one per thread, until the next region
  bool expects = false;                      // there is anything in expected_next
  bool told = false;                         // or in a share
  // The number of the open region and of its shares. It changes when they are full.
  alignas(cache_line) std::atomic<std::uint64_t> region{0};
  // Chunks that the workers have run: each adds its own when it finds no more.
  alignas(cache_line) std::atomic<std::size_t> finished{0};
  // Odd while a guard lives; a worker serves the one value it was started for.
  alignas(cache_line) std::atomic<std::uint64_t> guard{0};
  // Workers that have gone. TBB orders their last looks before the end of the arena, but TSan
  // cannot see it.
  std::atomic<std::size_t> departed{0};
  std::atomic<bool> busy{false};
  std::uint64_t num_regions = 0;

  // What a worker runs. Not checked by TSan: TBB, which is not instrumented, hands it over.
  struct server {
    impl* state;
    std::uint64_t mine;
    // TBB gives the first place to a caller, so a worker's is never the owner's 0.
    __attribute__((no_sanitize("thread"))) void operator()() const noexcept {
      state->serve(mine, static_cast<std::size_t>(tbb::this_task_arena::current_thread_index()));
    }
  };

  // Runs what is left of a share, from the front or from the end; returns how many chunks.
  std::size_t run_share(share& from, bool front, std::size_t thread) noexcept {
    std::size_t ran = 0;
    std::uint64_t range = from.unclaimed.load(std::memory_order_relaxed);
    while (first_of(range) != end_of(range)) {
      if (!from.unclaimed.compare_exchange_weak(range, front ? range + 1 : range - one_end,
                                                std::memory_order_acquire,
                                                std::memory_order_relaxed))
        continue;
      call(body, front ? first_of(range) : end_of(range) - 1, thread);
      ++ran;
      range = from.unclaimed.load(std::memory_order_relaxed);
    }
    return ran;
  }

  // Runs chunks until none is unclaimed; returns how many it ran.
  std::size_t run_chunks(std::size_t thread, std::size_t num_shares) noexcept {
    std::size_t ran = 0;
    if (thread < num_shares) ran = run_share(shares[thread], true, thread);
    for (std::size_t i = 1; i <= num_shares; ++i) {
      const std::size_t other = (thread + i) % num_shares;
      if (other != thread) ran += run_share(shares[other], false, thread);
    }
    return ran;
  }

  void serve(std::uint64_t mine, std::size_t thread) noexcept {
    waiter idle;
    read_ahead ahead;
    std::uint64_t seen = 0;
    while (guard.load(std::memory_order_acquire) == mine) {
      QUIRE_CHECK(thread > 0 && thread < num_threads,
                  "a worker of an arena has a place of its own");
      const std::uint64_t now = region.load(std::memory_order_acquire);
      if (now == seen) {
        ahead.fetch(lines_per_look);
        idle.wait();
        continue;
      }
      seen = now;
      idle.reset();
      if (const auto word = shares[thread].expected.load(std::memory_order_relaxed); word != 0)
        ahead = read_ahead(word);
      if (const std::size_t ran = run_chunks(thread, now % region_step); ran != 0)
        finished.fetch_add(ran, std::memory_order_release);
    }
    departed.fetch_add(1, std::memory_order_release);
  }

  // Opens a region. Returns how many shares it has.
  std::size_t open(std::size_t num_chunks) noexcept {
    const std::size_t num_shares = std::min(num_threads, num_chunks);
    finished.store(0, std::memory_order_relaxed);
    if (expects || told)
      for (std::size_t i = 0; i < num_threads; ++i)
        shares[i].expected.store(std::exchange(expected_next[i], 0), std::memory_order_relaxed);
    told = std::exchange(expects, false);
    for (std::size_t i = 0; i < num_shares; ++i)
      shares[i].unclaimed.store(
          range_of(i * num_chunks / num_shares, (i + 1) * num_chunks / num_shares),
          std::memory_order_release);
    region.store(num_regions * region_step + num_shares, std::memory_order_release);
    return num_shares;
  }

  bool is_hot() const noexcept { return (guard.load(std::memory_order_relaxed) & 1) != 0; }

  void heat() {
    QUIRE_CHECK(!is_hot(), "an arena holds at most one hot guard");
    const std::uint64_t mine = guard.load(std::memory_order_relaxed) + 1;
    for (std::size_t i = 1; i < num_threads; ++i)
      workers.push_back(group.defer(server{this, mine}));
    guard.store(mine, std::memory_order_release);  // orders the tasks above before their workers
    for (auto& worker : workers) tasks.enqueue(std::move(worker));
    workers.clear();
  }

  void cool() noexcept { guard.fetch_add(1, std::memory_order_relaxed); }
};

arena::arena(std::size_t num_threads)
    : impl_(std::make_unique<impl>(num_threads == 0 ? allowed_cores() : num_threads)) {}

arena::~arena() {
  QUIRE_CHECK(!impl_->is_hot(), "an arena outlives its hot guards");
  // Tasks that TBB never started run here and leave at once: their guard is gone.
  impl_->tasks.execute([this] { impl_->group.wait(); });
  impl_->departed.load(std::memory_order_acquire);
}

std::size_t arena::num_threads() const noexcept {
  return impl_->num_threads;
}

std::uint64_t arena::num_regions() const noexcept {
  return impl_->num_regions;
}

void arena::run(std::size_t num_chunks, void* body, call_function call) {
  impl& state = *impl_;
  if (num_chunks <= 1 || state.num_threads == 1) {
    [&]() noexcept {
      for (std::size_t i = 0; i < num_chunks; ++i) call(body, i, 0);
    }();
    return;
  }
  QUIRE_CHECK(!state.busy.exchange(true, std::memory_order_acquire),
              "arena::parallel is not reentrant and has one owner at a time");
  QUIRE_CHECK(num_chunks < one_end, "a region has fewer than 2^32 chunks");
  std::optional<hot> temporary;
  if (!state.is_hot()) temporary.emplace(*this);
  ++state.num_regions;
  state.body = body;
  state.call = call;
  const std::size_t left = num_chunks - state.run_chunks(0, state.open(num_chunks));
  read_ahead ahead(state.shares[0].expected.load(std::memory_order_relaxed));
  waiter others;
  while (state.finished.load(std::memory_order_acquire) != left) {
    ahead.fetch(lines_per_look);
    others.wait();
  }
  temporary.reset();
  state.busy.store(false, std::memory_order_release);
}

void arena::expect(std::size_t thread, std::span<const std::byte> bytes) noexcept {
  impl_->expected_next[thread] = read_ahead(bytes).word();
  impl_->expects = true;
}

arena::hot::hot(arena& owner) : owner_(owner) {
  owner_.impl_->heat();
}
arena::hot::~hot() {
  owner_.impl_->cool();
}

}  // namespace quire
