// The bridge from engine threads to one connection: a bounded mailbox for events, and the requests
// that fill it. Never blocks the engine: a client that reads slowly gets its text in larger pieces,
// and one that does not read at all makes its own requests wait.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "actors/engine.hpp"
#include "actors/generation.hpp"

namespace quire {

/// Holds the events of a call until its connection takes them. At most max_queued events lie
/// separately; past that, text is appended to the last event of its choice. Past max_held_bytes it
/// is full, and the engine is asked to wait for the client. Thread-safe.
class generation_inbox : public std::enable_shared_from_this<generation_inbox> {
 public:
  struct item {
    std::size_t prompt = 0;
    generation_event event;
  };
  static constexpr std::size_t max_queued = 32;
  static constexpr std::size_t max_held_bytes = 16 * 1024;

  /// `wake` is called from engine threads when the inbox stops being empty, and when it becomes
  /// full; it must not block.
  explicit generation_inbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  /// Returns a listener that files events under a prompt.
  std::shared_ptr<generation_listener> listener(std::size_t prompt);
  void put(std::size_t prompt, generation_event event);
  /// Returns what has come since the last call, in order.
  std::deque<item> take();
  bool full() const;
  /// Drops everything from now on; after this, wake is never called again.
  void close();

 private:
  bool coalesce(std::size_t prompt, generation_event& event);

  mutable std::mutex mutex_;
  std::deque<item> items_;
  std::size_t held_bytes_ = 0;
  std::function<void()> wake_;
  bool closed_ = false;
};

/// The requests of one call. Destroying it cancels what has not finished.
class generation_run {
 public:
  generation_run(engine& served_engine, std::function<void()> wake)
      : engine_(&served_engine), inbox_(std::make_shared<generation_inbox>(std::move(wake))) {}
  ~generation_run() { cancel(); }
  generation_run(const generation_run&) = delete;
  generation_run& operator=(const generation_run&) = delete;

  void submit(std::vector<generation_request> prompts);
  std::deque<generation_inbox::item> take();
  /// Pauses the requests while the inbox is full, and resumes them when it is not. To be called on
  /// every wake.
  void keep_pace();
  /// Says that every request has ended, so that there is nothing to cancel.
  void set_complete() noexcept { ids_.clear(); }
  /// Ends the requests; their pages are free within one step. Idempotent.
  void cancel();

 private:
  engine* engine_;
  std::shared_ptr<generation_inbox> inbox_;
  std::vector<request_id> ids_;
  bool paused_ = false;
};

}  // namespace quire
