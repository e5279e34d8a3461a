// What the cache manager decides: budgets, leases, sharing, eviction, defragmentation. It owns the
// page store, the prefix index and the ledger and is the only one that changes them. Plain data in,
// plain data out; no actors, no clock, no page bytes.
//
// Two rules keep every started request able to finish:
//   at an offer: promised pages <= free pages + pages that only the prefix index holds
//   at a lease: it takes pages only from the promise of its request
// A started request that must grow may have pages taken from those that count from later; so the
// earliest can always go on, and no two can wait for each other.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "actors/budget_ledger.hpp"
#include "actors/cache_terms.hpp"
#include "actors/engine_options.hpp"
#include "actors/fair_queue.hpp"
#include "actors/prefix_watch.hpp"
#include "actors/reclaim_policy.hpp"
#include "core/error.hpp"
#include "core/ids.hpp"
#include "memory/page_store.hpp"
#include "memory/prefix_index.hpp"

namespace quire {

class cache_accounts {
 public:
  struct options {
    budget_ledger::options ledger;
    fair_queue::options line;
    park_ledger::limits park;
    bool prefix_cache = true;
    defragment_options defragment;
    std::uint32_t min_pages = 0;           ///< kept resident when idle, with the latest prefixes
    std::chrono::milliseconds idle{5000};  ///< without a request coming or going: load has fallen
    std::uint64_t index_seed = 0;
    std::uint32_t max_running = 256;  ///< sequences that compute; more wait in line
    std::chrono::milliseconds reclaim_timeout{20};
  };

  /// Errors: invalid_argument (those of page_store::make).
  static result<std::unique_ptr<cache_accounts>> make(std::uint32_t num_pages,
                                                      std::uint32_t page_tokens, options chosen);

  // --- negotiation -----------------------------------------------------------------------------
  /// Answers a request for a budget.
  budget_answer negotiate(budget_terms terms, moment now);
  /// Takes an offer up. Errors: deadline_exceeded (it expired or never stood).
  result<void> accept(ticket_id ticket);
  /// Gives up a ticket with everything that belongs to it: its place, its offer, its sequences.
  void drop(ticket_id ticket, moment now);
  /// Lets what waits go on: takes back what was not answered in time, lets started requests grow,
  /// makes offers to those whose turn has come, and asks others to yield where pages are short. To
  /// be called after anything that may have freed pages or passed time. Cost: O(effects), O(1) if
  /// nothing changed, O(running) while somebody lacks pages.
  std::vector<cache_effect> serve(moment now);
  /// Whether an offer stands that nobody has answered yet.
  bool is_offered(ticket_id ticket) const { return ledger_.is_offered(ticket); }
  /// When serve must be called even if nothing happens; nothing when it need not.
  std::optional<moment> next_deadline() const;
  /// Whether a step is wanted to park or to restore pages, though nothing may be there to compute.
  bool has_page_work() const noexcept {
    return !leaving_.empty() || !restoring_.empty() || !drops_.empty();
  }

  // --- sequences -------------------------------------------------------------------------------
  enum class growth : std::uint8_t { granted, denied, waits };
  /// Raises the budget of a sequence that does not fork. `waits`: others are asked to yield, serve
  /// will say growth_answer. `denied`: there is nobody to ask, or no such sequence; the request
  /// should yield itself.
  growth extend(sequence_id sequence, std::uint64_t sequence_tokens, moment now);
  /// Takes the answer to a yield_ask, or a request's own decision to yield. To park, its pages are
  /// copied out with the next lease; when it comes back it may store `resume_tokens`, and serve
  /// will offer that when there is room. When there is no room to park, serve will say taken_back.
  /// Unknown sequences are ignored.
  void yielded(sequence_id sequence, yield_choice how, std::uint64_t resume_tokens, moment now);
  /// The reader of a request is slow (or no longer): its pages are the first to be reclaimed, and
  /// parked it waits for its reader and not for pages. Unknown tickets are ignored.
  void hold(ticket_id ticket, bool held);
  /// Makes `count` copies of a sequence that share all its pages, within the budget of its ticket.
  /// Errors: sequence_not_found, out_of_pages (more than the budget was made for).
  result<std::vector<sequence_id>> fork(sequence_id parent, std::uint32_t count);
  /// Drops stored tokens past `tokens`. Errors: those of page_store::truncate.
  result<void> truncate(sequence_id sequence, std::uint64_t tokens);
  /// Ends a sequence; full pages stay in the prefix index. Unknown ones are ignored.
  void release(sequence_id sequence, moment now);

  // --- steps -----------------------------------------------------------------------------------
  /// Gives each item the pages that it writes and pins its table. At most one lease is live. Tidies
  /// up in bounded portions, larger ones with `idle`: moves pages to the front and, when no request
  /// has come or gone for a while, drops prefixes down to the minimum and marks the pages behind
  /// for the operating system.
  step_pages lease(std::uint64_t step, std::span<const lease_item> items, bool idle = false,
                   moment now = {});
  /// Ends the lease. When the step succeeded its full pages become known to the prefix index, but
  /// for those of sequences that were not run in the end; when it failed, returns the sequences
  /// whose pages may not hold what they should.
  std::vector<sequence_id> end_step(std::uint64_t step, const step_end& how);

  const page_store& store() const noexcept { return store_; }
  const budget_ledger& ledger() const noexcept { return ledger_; }
  const cache_counters& counters() const noexcept { return counters_; }
  prefix_stats prefix() const { return index_.stats(); }
  const park_ledger& parked() const noexcept { return park_; }
  std::size_t waiting() const noexcept { return line_.size(); }
  /// Verifies the store's invariants and that promises can be kept. Errors: internal.
  result<void> check() const;

 private:
  /// A request that must grow waits at most this long for others to yield; then it yields itself.
  static constexpr std::chrono::seconds growth_patience{1};

  /// A sequence whose pages are outside the pool.
  struct parked_copy {
    park_id id{};
    park_place where = park_place::memory;
    std::uint32_t pages = 0;
    std::uint32_t stored = 0;
    std::vector<token_id> tokens;
  };
  /// One negotiation, from the first question to the last sequence's end.
  struct account {
    budget_terms terms;
    moment arrived{};
    moment counts_from{};               ///< arrival, less the head start of its priority
    std::vector<std::uint64_t> hashes;  ///< of the prompt's full pages that may come from the cache
    std::uint64_t waits_for = 0;        ///< hash of a page that another request computes
    moment waits_since{};
    std::uint32_t unforked = 0;      ///< sequences still to be forked from the first
    std::uint32_t final_pages = 0;   ///< of one sequence's table when it ends
    std::uint32_t resume_pages = 0;  ///< the same, once it is back from being parked
    std::vector<sequence_id> members;
    bool held = false;                   ///< its reader is slow
    std::optional<moment> asked_until;   ///< to yield; silence after that is recompute
    std::optional<moment> spared_until;  ///< it refused to yield
    bool leaving = false;                ///< to be parked with the next lease
    bool restoring = false;              ///< its pages come back with the next lease
    std::optional<parked_copy> copy;
  };
  struct member {
    ticket_id ticket{};
    std::vector<token_id> tokens;  ///< known: the prompt, then what was generated
    std::uint32_t stored = 0;      ///< written, or being written by the live lease
    std::uint32_t indexed_pages = 0;
  };
  struct live_item {
    sequence_id sequence{};
    std::vector<page_id> table;
  };
  struct live_lease {
    std::uint64_t step = 0;
    std::vector<live_item> items;
    std::vector<page_id> targets;  ///< of copies
    bool moved = false;
    std::vector<ticket_id> parking;
    std::vector<ticket_id> restoring;
  };
  /// A started request that waits to grow; the order is that of service.
  struct growth_key {
    moment counts_from;
    ticket_id ticket{};
    bool operator<(const growth_key& other) const {
      return counts_from != other.counts_from ? counts_from < other.counts_from
                                              : ticket < other.ticket;
    }
  };
  struct growth_wait {
    sequence_id sequence{};
    std::uint32_t final_pages = 0;
    moment since;
  };

  cache_accounts(page_store store, options chosen);

  std::uint32_t pages_needed(const budget_terms& terms, std::uint64_t sequence_tokens) const;
  std::uint64_t room() const;
  bool fits(std::uint64_t pages) const { return pages <= room(); }
  bool has_place(const account& asked) const;
  void enter_line(ticket_id ticket, account& asked);
  bool is_next(ticket_id ticket) const;
  void charge(const account& of, double pages);
  bool waits_for_prefix(account& asked, moment now);
  std::uint32_t affordable_pages(const account& asked, std::uint32_t needed,
                                 std::uint32_t cached) const;
  std::optional<offer> try_offer(ticket_id ticket, account& asked, moment now);
  bool try_restore(ticket_id ticket, account& asked);
  void make_way(ticket_id ticket, const account& asked, moment now,
                std::vector<cache_effect>& effects);
  void serve_line(moment now, std::vector<cache_effect>& effects);
  std::uint32_t open_pages(const account& held) const;
  void settle(ticket_id ticket, const account& held);
  void grow_to(ticket_id ticket, account& held, std::uint32_t final_pages);
  void end_growth(ticket_id ticket, const account& held);
  bool serve_growths(moment now, std::vector<cache_effect>& effects);
  void take_silent(moment now);
  bool reclaim(const reclaim_need& need, std::uint64_t pages, moment now,
               std::vector<cache_effect>& effects);
  std::uint32_t held_pages(ticket_id ticket, const account& of) const;
  void take_back(ticket_id ticket, moment now);
  void park_leaving(step_pages& pages);
  void restore_coming(step_pages& pages);
  void end_exchange(const live_lease& ended, const step_end& how,
                    std::span<const sequence_id> lost);
  void drop_copy(account& of);
  bool make_room(std::uint32_t pages);
  lease_grant lease_one(const lease_item& item, std::vector<page_copy>& copies);
  bool grow(member& grown, const lease_item& item, std::vector<page_copy>& copies);
  bool is_quiet(moment now) const { return now - last_activity_ >= options_.idle; }
  std::uint32_t tidy(bool idle, moment now, step_pages& pages);
  void give_back(step_pages& pages);
  std::vector<sequence_id> lost_in(const live_lease& failed);
  void index_full_pages(const live_item& item);

  options options_;
  page_store store_;
  prefix_index index_;
  budget_ledger ledger_;
  fair_queue line_;
  park_ledger park_;
  prefix_watch watch_;
  cache_counters counters_;
  std::unordered_map<ticket_id, account> accounts_;
  std::unordered_map<sequence_id, member> members_;
  std::optional<live_lease> live_;
  std::map<growth_key, growth_wait> growths_;
  std::vector<ticket_id> asked_;  ///< to yield, not answered yet
  std::vector<ticket_id> leaving_;
  std::vector<ticket_id> restoring_;
  std::vector<park_id> drops_;
  std::vector<cache_effect> effects_;  ///< to be told by the next serve
  moment now_{};                       ///< the last that was told
  std::uint64_t last_ticket_ = 0;
  std::uint64_t last_park_ = 0;
  std::uint32_t touched_pages_ = 0;  ///< pages below this may be resident in memory
  moment last_activity_{};           ///< when a request last came or went
  bool changed_ = false;             ///< something may let the queue move
};

}  // namespace quire
