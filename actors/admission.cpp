#include "actors/admission.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace quire {

namespace {
/// Starts are remembered about this long.
constexpr double memory_seconds = 10.0;
/// A speed needs at least this much experience, or one early start would look like a flood.
constexpr double least_seconds = 0.05;
/// What to say before there is experience, and the bounds of what is said.
constexpr std::uint64_t unknown_ms = 1000;
constexpr double least_ms = 100;
constexpr double most_ms = 120000;
}  // namespace

result<void> admission::enter(request_id request, moment now) {
  if (closed_)
    return fail(errc::unavailable, "the engine is shutting down and takes no new requests");
  if (queue_.size() >= limits_.max_queued_requests)
    return full("requests", limits_.max_queued_requests, now);
  queue_.emplace(request, 0);
  return {};
}

result<void> admission::weigh(request_id request, std::uint32_t prompt_tokens, moment now) {
  const auto found = queue_.find(request);
  if (found == queue_.end()) return {};
  if (queue_.size() > 1 && queued_tokens_ + prompt_tokens > limits_.max_queued_tokens) {
    leave(request);
    return full("tokens", limits_.max_queued_tokens, now);
  }
  queued_tokens_ = queued_tokens_ - found->second + prompt_tokens;
  found->second = prompt_tokens;
  return {};
}

void admission::start(request_id request, moment now) {
  if (!queue_.contains(request)) return;
  leave(request);
  if (first_start_ == moment{}) first_start_ = now;
  recent_starts_ *= std::exp(-seconds_between(last_start_, now) / memory_seconds);
  recent_starts_ += 1;
  last_start_ = now;
}

void admission::leave(request_id request) {
  const auto found = queue_.find(request);
  if (found == queue_.end()) return;
  queued_tokens_ -= found->second;
  queue_.erase(found);
}

std::uint64_t admission::retry_after_ms(moment now) const {
  if (first_start_ == moment{}) return unknown_ms;
  const double age = std::max(seconds_between(first_start_, now), least_seconds);
  const double left = recent_starts_ * std::exp(-seconds_between(last_start_, now) / memory_seconds);
  const double rate = left / (memory_seconds * (1.0 - std::exp(-age / memory_seconds)));
  const double waiting = static_cast<double>(std::max<std::size_t>(queue_.size(), 1));
  return static_cast<std::uint64_t>(std::clamp(1000.0 * waiting / rate, least_ms, most_ms));
}

tl::unexpected<error> admission::full(const char* what, std::uint64_t limit, moment now) {
  ++refused_;
  const std::uint64_t wait = retry_after_ms(now);
  return fail(errc::queue_full,
              "the queue is full (limit " + std::to_string(limit) + " " + what +
                  "); try again in " + std::to_string(wait) + " ms",
              {wait, 0});
}

}  // namespace quire
