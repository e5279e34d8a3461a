#include "actors/fair_queue.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>

namespace quire {

namespace {
/// Users that neither wait nor have an advance are forgotten when there are this many.
constexpr std::size_t many_users = 1024;
}  // namespace

bool fair_queue::place::operator<(const place& other) const {
  return std::tuple(tag, counts_from, ticket) <
         std::tuple(other.tag, other.counts_from, other.ticket);
}

bool fair_queue::key::operator<(const key& other) const {
  return std::tuple(counts_from, ticket) < std::tuple(other.counts_from, other.ticket);
}

moment fair_queue::counts_from(moment arrived, int priority) const {
  return arrived - options_.aging * std::clamp(priority, -1000, 1000);
}

void fair_queue::enqueue(entry added) {
  leave(added.ticket);
  if (added.resumed) return enqueue_resumed(std::move(added));
  if (users_.size() > many_users) forget_idle_users();
  user_line& of = users_[added.user];
  if (of.line.empty()) of.given = std::max(of.given, now_);
  const key at{counts_from(added.arrived, added.priority), added.ticket};
  waiter& waits = waiting_[added.ticket];
  waits.at = {0, at.counts_from, added.ticket, added.pages};
  waits.about = std::move(added);
  line_.insert(waits.at);
  retag(of, of.line.emplace(at, waits.at.ticket).first);
}

void fair_queue::enqueue_resumed(entry added) {
  waiter& waits = waiting_[added.ticket];
  waits.at = {now_ - options_.aging_tokens * std::clamp(added.priority, -1000, 1000),
              counts_from(added.arrived, added.priority), added.ticket, added.pages};
  waits.about = std::move(added);
  line_.insert(waits.at);
}

// Hands out the tags of a user's line anew, from one place on.
void fair_queue::retag(user_line& of, std::map<key, ticket_id>::iterator from) {
  double start = of.given;
  double least = -1e300;
  if (from != of.line.begin()) {
    const waiter& before = waiting_.at(std::prev(from)->second);
    start = before.start + static_cast<double>(before.about.tokens);
    least = before.at.tag;
  }
  for (auto at = from; at != of.line.end(); ++at) {
    waiter& waits = waiting_.at(at->second);
    const int priority = std::clamp(waits.about.priority, -1000, 1000);
    // A user's requests stay in their order whatever their priorities are against others.
    const double tag = std::max(start - options_.aging_tokens * priority, least);
    waits.start = start;
    if (tag != waits.at.tag) {
      line_.erase(waits.at);
      waits.at.tag = tag;
      line_.insert(waits.at);
    }
    start += static_cast<double>(waits.about.tokens);
    least = tag;
  }
}

void fair_queue::remove(ticket_id ticket) {
  const auto found = waiting_.find(ticket);
  const place at = found->second.at;
  if (found->second.about.resumed) {
    line_.erase(at);
    waiting_.erase(found);
    return;
  }
  user_line& of = users_.at(found->second.about.user);
  line_.erase(at);
  const auto next = of.line.erase(of.line.find({at.counts_from, ticket}));
  waiting_.erase(found);
  retag(of, next);
}

void fair_queue::leave(ticket_id ticket) {
  if (waits(ticket)) remove(ticket);
}

void fair_queue::serve(ticket_id ticket) {
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return;
  if (found->second.about.resumed) return remove(ticket);
  user_line& of = users_.at(found->second.about.user);
  now_ = std::max(now_, found->second.start);
  of.given += static_cast<double>(found->second.about.tokens);
  remove(ticket);
}

void fair_queue::charge(const std::string& user, double tokens) {
  const auto found = users_.find(user);
  if (found == users_.end()) return;
  found->second.given = std::max(found->second.given + tokens, 0.0);
  retag(found->second, found->second.line.begin());
}

void fair_queue::forget_idle_users() {
  std::erase_if(users_, [this](const auto& user) {
    return user.second.line.empty() && user.second.given <= now_;
  });
}

std::uint32_t fair_queue::position(ticket_id ticket) const {
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return 0;
  return static_cast<std::uint32_t>(std::distance(line_.begin(), line_.find(found->second.at))) + 1;
}

std::uint64_t fair_queue::pages_until(ticket_id ticket) const {
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return 0;
  std::uint64_t pages = 0;
  for (const place& at : line_) {
    pages += at.pages;
    if (at.ticket == ticket) break;
  }
  return pages;
}

}  // namespace quire
