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
constexpr double unknown_seconds = 1;
constexpr double least_ms = 10;
constexpr double most_ms = 120000;
}  // namespace

result<void> admission::enter(request_id request) {
  if (closed_)
    return fail(errc::unavailable, "the engine is shutting down and takes no new requests");
  if (queue_.size() >= limits_.max_queued_requests)
    return full("requests", limits_.max_queued_requests, 1);
  queue_.emplace(request, 0);
  return {};
}

result<void> admission::weigh(request_id request, std::uint32_t prompt_tokens) {
  const auto found = queue_.find(request);
  if (found == queue_.end()) return {};
  const std::uint64_t others = queued_tokens_ - found->second;
  if (queue_.size() > 1 && others + prompt_tokens > limits_.max_queued_tokens) {
    leave(request);
    // As many must start as hold the tokens that are too many, if all are alike.
    const std::uint64_t excess = others + prompt_tokens - limits_.max_queued_tokens;
    const std::uint64_t mean = std::max<std::uint64_t>(others / queue_.size(), 1);
    return full("tokens", limits_.max_queued_tokens,
                std::min<std::uint64_t>((excess + mean - 1) / mean, queue_.size()));
  }
  queued_tokens_ = others + prompt_tokens;
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

std::optional<double> admission::seconds_per_start(moment now) const {
  if (first_start_ == moment{}) return std::nullopt;
  const double age = std::max(seconds_between(first_start_, now), least_seconds);
  const double left =
      recent_starts_ * std::exp(-seconds_between(last_start_, now) / memory_seconds);
  return memory_seconds * (1.0 - std::exp(-age / memory_seconds)) / left;
}

tl::unexpected<error> admission::full(const char* what, std::uint64_t limit, std::uint64_t starts) {
  ++refused_;
  return fail(errc::queue_full,
              "the queue is full (limit " + std::to_string(limit) + " " + what + ")", {0, starts});
}

error admission::come_back(error full, moment now, std::optional<double> next_departure) const {
  const auto each = seconds_per_start(now);
  const double first = next_departure.value_or(each.value_or(unknown_seconds));
  const double more = static_cast<double>(full.numbers[1]) - 1;
  const double wait = first + more * each.value_or(first);
  full.numbers[0] = static_cast<std::uint64_t>(std::clamp(1000.0 * wait, least_ms, most_ms));
  full.message += "; try again in " + std::to_string(full.numbers[0]) + " ms";
  return full;
}

}  // namespace quire
