// Expectations: sums and counts by arithmetic; refusals observed as an abort of a child process.
#include "compute/arena.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

// Whether `action` aborts the process that runs it.
template <class Action>
bool aborts(Action action) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(3);
    action();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

}  // namespace

TEST_CASE("an arena counts its owner among its threads", "[compute]") {
  REQUIRE(arena(1).num_threads() == 1);
  REQUIRE(arena(5).num_threads() == 5);
  REQUIRE(arena(0).num_threads() >= 1);
}

TEST_CASE("every chunk runs exactly once, with a guard and without", "[compute]") {
  for (const std::size_t threads : {1, 2, 4, 7}) {
    arena a(threads);
    for (const bool guarded : {false, true}) {
      std::unique_ptr<arena::hot> guard;
      if (guarded) guard = std::make_unique<arena::hot>(a);
      for (const std::size_t chunks : {0, 1, 2, 3, 8, 1000}) {
        std::vector<int> runs(chunks, 0);
        a.parallel(chunks, [&](std::size_t i) { ++runs[i]; });
        for (const int count : runs) REQUIRE(count == 1);
      }
    }
  }
}

TEST_CASE("chunks that run at the same time are told different threads", "[compute]") {
  for (const std::size_t threads : {1, 2, 4, 7}) {
    arena a(threads);
    std::vector<std::atomic<int>> inside(threads);
    std::atomic<int> clashes{0};
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::unique_ptr<arena::hot> guard;
      if (repeat % 2 == 1) guard = std::make_unique<arena::hot>(a);
      a.parallel(200, [&](std::size_t, std::size_t thread) {
        if (thread >= threads || inside[thread].fetch_add(1) != 0) clashes.fetch_add(1);
        if (thread < threads) inside[thread].fetch_sub(1);
      });
    }
    CHECK(clashes == 0);
  }
}

TEST_CASE("thousands of tiny regions see each other's plain writes", "[compute]") {
  arena a(4);
  arena::hot guard(a);
  std::vector<std::uint64_t> values(16, 1);
  constexpr std::uint64_t regions = 20000;
  for (std::uint64_t step = 0; step < regions; ++step) {
    const std::size_t shift = static_cast<std::size_t>(step % 3);
    // Each chunk reads what another thread may have written in the region before.
    std::vector<std::uint64_t>& now = values;
    a.parallel(now.size(), [&](std::size_t i) { now[(i + shift) % now.size()] += step; });
  }
  for (const auto value : values) REQUIRE(value == 1 + regions * (regions - 1) / 2);
}

TEST_CASE("a sum over chunks is the sum of the whole", "[compute]") {
  arena a(3);
  std::vector<double> data(100000);
  std::iota(data.begin(), data.end(), 0.0);
  for (int repeat = 0; repeat < 20; ++repeat) {
    arena::hot guard(a);
    std::vector<double> parts(50, 0.0);
    a.parallel(parts.size(), [&](std::size_t i) {
      for (std::size_t j = i * 2000; j < (i + 1) * 2000; ++j) parts[i] += data[j];
    });
    REQUIRE(std::accumulate(parts.begin(), parts.end(), 0.0) == 100000.0 * 99999.0 / 2.0);
  }
}

TEST_CASE("guards come and go faster than workers arrive", "[compute]") {
  arena a(4);
  for (int i = 0; i < 2000; ++i) {
    arena::hot guard(a);
    if (i % 5 == 0) {
      std::atomic<int> count{0};
      a.parallel(6, [&](std::size_t) { count.fetch_add(1, std::memory_order_relaxed); });
      REQUIRE(count.load() == 6);
    }
  }
}

TEST_CASE("arenas may be many and short-lived", "[compute]") {
  for (int i = 0; i < 50; ++i) {
    arena a(3);
    std::vector<int> out(9, 0);
    a.parallel(out.size(), [&](std::size_t c) { out[c] = static_cast<int>(c); });
    REQUIRE(std::accumulate(out.begin(), out.end(), 0) == 36);
  }
}

TEST_CASE("a thread runs its share from the front and then the others' from the end", "[compute]") {
  for (const std::size_t threads : {2, 3, 5})
    for (const std::size_t chunks : {2, 4, 7, 100}) {
      arena a(threads);
      arena::hot guard(a);
      const std::size_t shares = std::min(threads, chunks);
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<std::vector<std::size_t>> order(threads);
        a.parallel(chunks, [&](std::size_t i, std::size_t thread) { order[thread].push_back(i); });
        for (std::size_t thread = 0; thread < threads; ++thread)
          for (std::size_t share = 0; share < shares; ++share) {
            const std::size_t begin = share * chunks / shares;
            const std::size_t end = (share + 1) * chunks / shares;
            std::size_t last = chunks;  // of this share that the thread ran
            for (const std::size_t i : order[thread]) {
              if (i < begin || i >= end) continue;
              if (share == thread)
                REQUIRE(i == (last == chunks ? begin : last + 1));
              else
                REQUIRE(i < last);
              last = i;
            }
          }
      }
    }
}

TEST_CASE("memory that is expected is asked for, never read", "[compute]") {
  constexpr std::size_t size = 1 << 20;
  void* const forbidden = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(forbidden != MAP_FAILED);
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(forbidden), size);
  for (const std::size_t threads : {1, 2, 4}) {
    arena a(threads);
    for (int repeat = 0; repeat < 20; ++repeat) {
      arena::hot guard(a);
      for (std::size_t thread = 0; thread < threads; ++thread)
        a.expect(thread, repeat % 4 == 3 ? bytes.first(0) : bytes.subspan(thread * 1000));
      // The first chunk takes long, so that the other threads have time.
      std::vector<std::uint64_t> sums(8, 0);
      a.parallel(sums.size(), [&](std::size_t i) {
        for (std::uint64_t n = 0; n < (i == 0 ? 200000u : 10u); ++n) sums[i] += n ^ i;
      });
      for (std::size_t i = 1; i < sums.size(); ++i) {
        std::uint64_t sum = 0;
        for (std::uint64_t n = 0; n < 10; ++n) sum += n ^ i;
        REQUIRE(sums[i] == sum);
      }
      REQUIRE(sums[0] == 200000ull * 199999 / 2);
    }
  }
  munmap(forbidden, size);
}

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("a second guard and a region inside a region are refused", "[compute]") {
  REQUIRE(aborts([] {
    arena a(1);
    arena::hot first(a);
    arena::hot second(a);
  }));
  REQUIRE(aborts([] {
    arena a(2);
    a.parallel(2, [&](std::size_t) { a.parallel(2, [](std::size_t) {}); });
  }));
  REQUIRE_FALSE(aborts([] {
    arena a(1);
    { arena::hot first(a); }
    arena::hot second(a);
  }));
}
#endif
