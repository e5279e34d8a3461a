// The bridge from engine threads to one connection: a bounded mailbox for events, and the requests
// that fill it. Never blocks the engine: a client that reads slowly gets its text in larger pieces.
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
/// separately; past that, text is appended to the last event of its choice, so that what is held is
/// bounded by the text itself. Thread-safe.
class generation_inbox : public std::enable_shared_from_this<generation_inbox> {
 public:
  struct item {
    std::size_t prompt = 0;
    generation_event event;
  };
  static constexpr std::size_t max_queued = 32;

  /// `wake` is called from engine threads when the inbox stops being empty; it must not block.
  explicit generation_inbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  /// Returns a listener that files events under a prompt.
  std::shared_ptr<generation_listener> listener(std::size_t prompt);
  void put(std::size_t prompt, generation_event event);
  /// Returns what has come since the last call, in order.
  std::deque<item> take();
  /// Drops everything from now on; after this, wake is never called again.
  void close();

 private:
  bool coalesce(std::size_t prompt, generation_event& event);

  std::mutex mutex_;
  std::deque<item> items_;
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
  std::deque<generation_inbox::item> take() { return inbox_->take(); }
  /// Says that every request has ended, so that there is nothing to cancel.
  void set_complete() noexcept { ids_.clear(); }
  /// Ends the requests; their pages are free within one step. Idempotent.
  void cancel();

 private:
  engine* engine_;
  std::shared_ptr<generation_inbox> inbox_;
  std::vector<request_id> ids_;
};

}  // namespace quire
