// The one way to a request's listener: the actors of its choices share it. Keeps the contract of
// generation_listener: one call at a time, admitted first, nothing after failed or after the end.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "actors/generation.hpp"

namespace quire {

class event_gate {
 public:
  event_gate(std::shared_ptr<generation_listener> listener, std::uint32_t num_choices)
      : listener_(std::move(listener)), unfinished_(num_choices) {}

  /// Passes an event on. Thread-safe.
  void tell(generation_event event) {
    const std::scoped_lock lock(mutex_);
    if (!listener_) return;
    const bool last = std::holds_alternative<failed_event>(event) ||
                      (std::holds_alternative<finished_event>(event) && --unfinished_ == 0);
    // The listener may hold much of its caller alive, so it is let go with its last event.
    const auto listener = last ? std::move(listener_) : listener_;
    listener->on_event(std::move(event));
  }

  /// Whether the last event has been told.
  bool closed() const {
    const std::scoped_lock lock(mutex_);
    return !listener_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<generation_listener> listener_;
  std::uint32_t unfinished_;
};

}  // namespace quire
