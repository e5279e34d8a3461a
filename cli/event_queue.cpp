#include "cli/event_queue.hpp"

#include <utility>

namespace quire::cli {

void event_queue::on_event(generation_event event) noexcept {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  arrived_.notify_one();
}

generation_event event_queue::next() {
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [this] { return !events_.empty(); });
  generation_event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace quire::cli
