// Who was promised how many pages, which offers stand, and how fast pages come back: numbers only,
// no pages. Whoever started can go on to the end of its budget, because promises can be kept.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "actors/moment.hpp"
#include "actors/ticket.hpp"

namespace quire {

class budget_ledger {
 public:
  struct options {
    std::chrono::milliseconds offer_life{5000};  ///< an offer not accepted by then expires
  };

  explicit budget_ledger(options chosen) : options_(chosen) {}

  // --- promises --------------------------------------------------------------------------------
  /// Sets how many pages the holder of a ticket may still take. O(1).
  void promise(ticket_id ticket, std::uint32_t pages);
  /// Pages promised and not yet taken, of one ticket and of all.
  std::uint32_t promised(ticket_id ticket) const;
  std::uint64_t promised() const noexcept { return promised_; }
  /// Forgets a ticket wherever it stands: its promise and its offer.
  void drop(ticket_id ticket);

  // --- offers ----------------------------------------------------------------------------------
  /// Starts the life of an offer.
  void offer(ticket_id ticket, moment now);
  /// Returns whether the offer still stood; it does no longer wait for an answer.
  bool accept(ticket_id ticket);
  /// Offers nobody answered in time, for the caller to take back with drop().
  std::vector<ticket_id> expired(moment now) const;
  /// When the next offer expires.
  std::optional<moment> next_expiry() const;
  bool is_offered(ticket_id ticket) const { return offers_.contains(ticket); }
  std::size_t open_offers() const noexcept { return offers_.size(); }

  // --- estimates -------------------------------------------------------------------------------
  /// Notes that requests gave pages back, to learn how fast that goes.
  void returned(std::uint32_t pages, moment now);
  /// Guesses how long until `pages` pages have come back; nothing while there is no experience.
  std::optional<std::chrono::milliseconds> time_until(std::uint64_t pages, moment now) const;

 private:
  options options_;
  std::unordered_map<ticket_id, std::uint32_t> promises_;
  std::uint64_t promised_ = 0;
  std::map<ticket_id, moment> offers_;  ///< when each expires
  double recent_returns_ = 0;           ///< pages, exponentially forgotten
  moment last_return_{};
  moment first_return_{};
};

}  // namespace quire
