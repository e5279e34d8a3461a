#include "actors/budget_ledger.hpp"

#include <algorithm>
#include <cmath>

namespace quire {

namespace {
/// Returns of pages are remembered about this long.
constexpr double memory_seconds = 10.0;
/// A rate needs at least this much experience, or one early return would look like a flood.
constexpr double least_seconds = 0.05;
}  // namespace

void budget_ledger::promise(ticket_id ticket, std::uint32_t pages) {
  auto& held = promises_[ticket];
  promised_ = promised_ - held + pages;
  held = pages;
}

std::uint32_t budget_ledger::promised(ticket_id ticket) const {
  const auto found = promises_.find(ticket);
  return found == promises_.end() ? 0 : found->second;
}

void budget_ledger::drop(ticket_id ticket) {
  if (const auto found = promises_.find(ticket); found != promises_.end()) {
    promised_ -= found->second;
    promises_.erase(found);
  }
  offers_.erase(ticket);
}

void budget_ledger::offer(ticket_id ticket, moment now) {
  offers_[ticket] = now + options_.offer_life;
}

bool budget_ledger::accept(ticket_id ticket) {
  return offers_.erase(ticket) > 0;
}

std::vector<ticket_id> budget_ledger::expired(moment now) const {
  std::vector<ticket_id> late;
  for (const auto& [ticket, until] : offers_)
    if (until <= now) late.push_back(ticket);
  return late;
}

std::optional<moment> budget_ledger::next_expiry() const {
  std::optional<moment> next;
  for (const auto& [ticket, until] : offers_)
    if (!next || until < *next) next = until;
  return next;
}

void budget_ledger::returned(std::uint32_t pages, moment now) {
  if (pages == 0) return;
  if (first_return_ == moment{}) first_return_ = now;
  recent_returns_ *= std::exp(-seconds_between(last_return_, now) / memory_seconds);
  recent_returns_ += pages;
  last_return_ = now;
}

std::optional<std::chrono::milliseconds> budget_ledger::time_until(std::uint64_t pages,
                                                                   moment now) const {
  if (first_return_ == moment{}) return std::nullopt;
  const double age = std::max(seconds_between(first_return_, now), least_seconds);
  const double left =
      recent_returns_ * std::exp(-seconds_between(last_return_, now) / memory_seconds);
  // What decays over memory_seconds adds up to rate x memory x (1 - e^-age) when returns are
  // steady.
  const double rate = left / (memory_seconds * (1.0 - std::exp(-age / memory_seconds)));
  if (rate <= 0) return std::nullopt;
  const double seconds = std::min(static_cast<double>(pages) / rate, 3600.0);
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000.0));
}

}  // namespace quire
