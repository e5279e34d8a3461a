// Who is asked to give pages up when they run short, and where parked pages may go. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "actors/moment.hpp"
#include "actors/ticket.hpp"
#include "memory/page_park.hpp"

namespace quire {

/// Somebody who holds pages and could give them up.
struct reclaim_candidate {
  ticket_id ticket{};
  int priority = 0;
  moment counts_from;       ///< arrival, less the head start of its priority
  bool held = false;        ///< its reader is slow, so it computes nothing at the moment
  std::uint32_t pages = 0;  ///< that would come back
};

/// On whose behalf pages are wanted.
struct reclaim_need {
  ticket_id ticket{};
  int priority = 0;
  moment counts_from;
  bool running = false;  ///< a started request that must grow, not one that waits to start
};

/// Whether pages may be taken from one for the other. A started request may grow at the cost of all
/// that count from later, so the earliest can always go on. One that waits to start may only
/// displace lower priorities, or every arrival would displace somebody. Who is held may always be
/// asked.
bool may_take(const reclaim_need& need, const reclaim_candidate& from);

/// Chooses whom to ask for `pages` pages: held ones first, then the lowest priority, then the
/// latest. Empty when all together could not give that many.
std::vector<ticket_id> choose_victims(const reclaim_need& need,
                                      std::vector<reclaim_candidate> candidates,
                                      std::uint64_t pages);

/// Counts parked pages against the limits: memory first, then disk.
class park_ledger {
 public:
  struct limits {
    std::uint64_t memory_pages = 0;
    std::uint64_t disk_pages = 0;
  };
  explicit park_ledger(limits chosen) : limits_(chosen) {}

  /// Takes room for `pages` pages; nothing when neither place has it.
  std::optional<park_place> take(std::uint32_t pages);
  void give_back(park_place where, std::uint32_t pages);
  std::uint64_t memory_pages() const noexcept { return memory_; }
  std::uint64_t disk_pages() const noexcept { return disk_; }

 private:
  limits limits_;
  std::uint64_t memory_ = 0;
  std::uint64_t disk_ = 0;
};

}  // namespace quire
