// The threads that compute: a oneTBB arena with a cheap fork-join for many small regions.
//
// A forward pass has hundreds of parallel regions of a few microseconds. Waking workers for each
// one would cost as much as the work, so while a `hot` guard lives (one engine step) the workers
// stay in a loop that claims chunks of whatever region the owner publishes. The owner never waits
// for a worker to arrive: it claims chunks too, so progress does not depend on how many workers TBB
// lends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace quire {

/// A pool of compute threads. One owner thread at a time may call parallel() or hold a hot guard.
class arena {
 public:
  /// Makes an arena of `num_threads` threads, the caller of parallel() counted; 0: one per core
  /// that the process may run on.
  explicit arena(std::size_t num_threads = 0);
  ~arena();
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;

  std::size_t num_threads() const noexcept;

  /// Returns how many regions have gone to several threads so far: each is a barrier. For the
  /// owner.
  std::uint64_t num_regions() const noexcept;

  /// Calls body(i) once for every i in [0, num_chunks), on any of the threads, and returns when all
  /// have returned. What chunk i computes must not depend on which thread runs it, so results are
  /// deterministic. body must be noexcept in effect (an exception aborts). With one thread or one
  /// chunk it runs on the caller without synchronization. Not reentrant. A body may take the number
  /// of the thread too, body(i, thread), below num_threads(): two chunks that run at the same time
  /// are told different ones.
  ///
  /// Chunks are dealt out in equal consecutive shares, in the order of the threads. A thread takes
  /// its share from the front and then from the ends of others', so neighbours are mostly run one
  /// after the other by one thread, and large chunks should come first in a share.
  template <class Body>
  void parallel(std::size_t num_chunks, Body&& body) {
    using body_type = std::remove_reference_t<Body>;
    run(num_chunks, const_cast<void*>(static_cast<const void*>(std::addressof(body))),
        [](void* b, std::size_t i, [[maybe_unused]] std::size_t thread) {
          if constexpr (std::is_invocable_v<body_type&, std::size_t, std::size_t>)
            (*static_cast<body_type*>(b))(i, thread);
          else
            (*static_cast<body_type*>(b))(i);
        });
  }

  /// Names what `thread` will read after the next region: when it has nothing to do there any more,
  /// it asks memory for that, up to a limit, until something else is named with another region.
  /// Changes no value. For the owner.
  void expect(std::size_t thread, std::span<const std::byte> bytes) noexcept;

  /// Keeps the workers awake between regions while it lives: hold one around an engine step.
  class hot {
   public:
    explicit hot(arena& owner);
    ~hot();
    hot(const hot&) = delete;
    hot& operator=(const hot&) = delete;

   private:
    arena& owner_;
  };

 private:
  struct impl;
  using call_function = void (*)(void* body, std::size_t chunk, std::size_t thread);
  void run(std::size_t num_chunks, void* body, call_function call);
  std::unique_ptr<impl> impl_;
};

}  // namespace quire
