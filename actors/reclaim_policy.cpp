#include "actors/reclaim_policy.hpp"

#include <algorithm>
#include <tuple>

namespace quire {

bool may_take(const reclaim_need& need, const reclaim_candidate& from) {
  if (from.ticket == need.ticket) return false;
  if (from.held) return true;
  if (from.counts_from < need.counts_from) return false;
  if (!need.running) return from.priority < need.priority;
  return from.counts_from > need.counts_from || from.ticket > need.ticket;
}

std::vector<ticket_id> choose_victims(const reclaim_need& need,
                                      std::vector<reclaim_candidate> candidates,
                                      std::uint64_t pages) {
  std::erase_if(candidates, [&](const reclaim_candidate& from) { return !may_take(need, from); });
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::tuple(!a.held, a.priority, b.counts_from, b.ticket) <
           std::tuple(!b.held, b.priority, a.counts_from, a.ticket);
  });
  std::vector<ticket_id> chosen;
  std::uint64_t given = 0;
  for (const reclaim_candidate& from : candidates) {
    if (given >= pages) break;
    given += from.pages;
    if (from.pages > 0) chosen.push_back(from.ticket);
  }
  if (given < pages) chosen.clear();
  return chosen;
}

std::optional<park_place> park_ledger::take(std::uint32_t pages) {
  if (memory_ + pages <= limits_.memory_pages) {
    memory_ += pages;
    return park_place::memory;
  }
  if (disk_ + pages <= limits_.disk_pages) {
    disk_ += pages;
    return park_place::disk;
  }
  return std::nullopt;
}

void park_ledger::give_back(park_place where, std::uint32_t pages) {
  (where == park_place::memory ? memory_ : disk_) -= pages;
}

}  // namespace quire
