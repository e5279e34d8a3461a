// The published region is three words and a count of chunks that nobody has claimed. A claim is a
// compare-and-swap that lowers the count; it can only succeed on the region that is open now, and
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

#include "core/check.hpp"

namespace quire {
namespace {

constexpr std::size_t cache_line = 64;

// Spins before a thread offers its core to others: some tens of microseconds of pauses.
constexpr int spins_before_yield = 1500;

void pause_core() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
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
  explicit impl(std::size_t threads) : num_threads(threads), tasks(static_cast<int>(threads)) {
    if (threads > allowed_cores())
      parallelism.emplace(tbb::global_control::max_allowed_parallelism, threads);
  }

  const std::size_t num_threads;
  // TBB lends at most one worker per core unless told; a caller who asks for more gets them.
  std::optional<tbb::global_control> parallelism;
  tbb::task_arena tasks;
  tbb::task_group group;

  std::vector<tbb::task_handle> workers;

  // The open region: written by the owner while unclaimed is 0, read only by holders of a claim.
  std::size_t num_chunks = 0;
  void* body = nullptr;
  call_function call = nullptr;

  alignas(cache_line) std::atomic<std::size_t> unclaimed{0};
  alignas(cache_line) std::atomic<std::size_t> finished{0};
  // Odd while a guard lives; a worker serves the one value it was started for.
  alignas(cache_line) std::atomic<std::uint64_t> guard{0};
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

  // Runs chunks until none is unclaimed; returns how many it ran.
  std::size_t run_chunks(std::size_t thread) noexcept {
    std::size_t ran = 0;
    std::size_t left = unclaimed.load(std::memory_order_relaxed);
    while (left != 0) {
      if (!unclaimed.compare_exchange_weak(left, left - 1, std::memory_order_acquire,
                                           std::memory_order_relaxed))
        continue;
      call(body, num_chunks - left, thread);
      finished.fetch_add(1, std::memory_order_release);
      ++ran;
      left = unclaimed.load(std::memory_order_relaxed);
    }
    return ran;
  }

  void serve(std::uint64_t mine, std::size_t thread) noexcept {
    waiter idle;
    while (guard.load(std::memory_order_acquire) == mine) {
      QUIRE_CHECK(thread > 0 && thread < num_threads, "a worker of an arena has a place of its own");
      if (run_chunks(thread) != 0)
        idle.reset();
      else
        idle.wait();
    }
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
  std::optional<hot> temporary;
  if (!state.is_hot()) temporary.emplace(*this);
  ++state.num_regions;
  state.num_chunks = num_chunks;
  state.body = body;
  state.call = call;
  state.finished.store(0, std::memory_order_relaxed);
  state.unclaimed.store(num_chunks, std::memory_order_release);
  state.run_chunks(0);
  waiter others;
  while (state.finished.load(std::memory_order_acquire) != num_chunks) others.wait();
  temporary.reset();
  state.busy.store(false, std::memory_order_release);
}

arena::hot::hot(arena& owner) : owner_(owner) {
  owner_.impl_->heat();
}
arena::hot::~hot() {
  owner_.impl_->cool();
}

}  // namespace quire
