// Hands the events of a request from the engine's threads to the one that waits for them.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>

#include "actors/generation.hpp"

namespace quire::cli {

class event_queue final : public generation_listener {
 public:
  void on_event(generation_event event) noexcept override;
  /// Waits for the next event.
  generation_event next();

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<generation_event> events_;
};

}  // namespace quire::cli
