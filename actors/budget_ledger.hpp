// Who was promised how many pages, and who waits for how many: numbers only, no pages.
//
// A budget is promised in full before a request starts, so a started request can always end. Waiting
// is strictly in order. Priority p counts as having arrived p x aging_ms earlier; because everybody
// ages at the same rate, the order of two waiting requests never changes, and nobody can be overtaken
// by requests that arrive later than p x aging_ms after it: that is the bound on starvation.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "actors/moment.hpp"

namespace quire {

/// Names one negotiation with the cache manager. Strictly increasing; 0 is never given out.
enum class ticket_id : std::uint64_t {};

class budget_ledger {
 public:
  struct options {
    std::chrono::milliseconds aging{2000};      ///< head start that one step of priority gives
    std::chrono::milliseconds offer_life{5000}; ///< an offer not accepted by then expires
  };

  explicit budget_ledger(options chosen) : options_(chosen) {}

  // --- promises --------------------------------------------------------------------------------
  /// Sets how many pages the holder of a ticket may still take. O(1).
  void promise(ticket_id ticket, std::uint32_t pages);
  /// Pages promised and not yet taken, of one ticket and of all.
  std::uint32_t promised(ticket_id ticket) const;
  std::uint64_t promised() const noexcept { return promised_; }
  /// Forgets a ticket wherever it stands: its promise, its offer, its place in the queue.
  void drop(ticket_id ticket);

  // --- offers ----------------------------------------------------------------------------------
  /// Starts the life of an offer.
  void offer(ticket_id ticket, moment now);
  /// Returns whether the offer still stood; it does no longer wait for an answer.
  bool accept(ticket_id ticket);
  /// Offers nobody answered in time, for the caller to take back with drop().
  std::vector<ticket_id> expired(moment now) const;
  bool is_offered(ticket_id ticket) const { return offers_.contains(ticket); }
  std::size_t open_offers() const noexcept { return offers_.size(); }

  // --- the queue -------------------------------------------------------------------------------
  /// Queues a ticket that needs `pages`; priorities beyond +-1000 count as that.
  void enqueue(ticket_id ticket, int priority, std::uint32_t pages, moment now);
  /// Takes a ticket out of the queue; unknown ones are ignored.
  void leave_queue(ticket_id ticket);
  bool waits(ticket_id ticket) const { return places_.contains(ticket); }
  std::size_t waiting() const noexcept { return queue_.size(); }
  /// A place in the queue.
  struct place {
    moment counts_from;  ///< arrival, less the head start
    ticket_id ticket{};
    std::uint32_t pages = 0;
    bool operator<(const place& other) const {
      return counts_from != other.counts_from ? counts_from < other.counts_from
                                              : ticket < other.ticket;
    }
  };
  /// The waiting tickets in the order in which they will be served.
  const std::set<place>& queue() const noexcept { return queue_; }
  /// Returns the place of a waiting ticket, 1 being next; 0 when it does not wait. O(place).
  std::uint32_t position(ticket_id ticket) const;
  /// Pages wanted by this ticket and all before it.
  std::uint64_t pages_until(ticket_id ticket) const;

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
  std::set<place> queue_;
  std::unordered_map<ticket_id, place> places_;
  double recent_returns_ = 0;  ///< pages, exponentially forgotten
  moment last_return_{};
  moment first_return_{};
};

}  // namespace quire
