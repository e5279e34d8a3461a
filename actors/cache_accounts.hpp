// What the cache manager decides: budgets, leases, sharing, eviction, defragmentation. It owns the
// page store, the prefix index and the ledger and is the only one that changes them. Plain data in,
// plain data out; no actors, no clock, no page bytes.
//
// Two rules keep every started request able to finish:
//   promised pages <= free pages + pages that only the prefix index holds      (checked at an offer)
//   a lease takes pages only from the promise of its request                  (checked at a lease)
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <variant>
#include <vector>

#include "actors/budget_ledger.hpp"
#include "actors/engine_options.hpp"
#include "actors/prefix_watch.hpp"
#include "core/error.hpp"
#include "core/ids.hpp"
#include "memory/page_store.hpp"
#include "memory/prefix_index.hpp"

namespace quire {

/// What a request asks the cache manager for.
struct budget_terms {
  request_id request{};
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint64_t sequence_tokens = 0;  ///< most tokens that one sequence stores under this budget
  std::uint64_t final_tokens = 0;  ///< most it may grow to by extension; 0: no more than that
  std::uint64_t shared_tokens = 0;    ///< stored before the sequence forks; counts if num_sequences > 1
  std::uint32_t num_sequences = 1;
  std::uint64_t max_cached_tokens = 0;  ///< prompt tokens that may come from the prefix index
  bool keep_prefix = true;              ///< full pages may be indexed for others
  int priority = 0;
  std::optional<moment> arrived;  ///< its place in the queue, if not now
  bool resumed = false;           ///< it ran before and gave its pages up
};

/// The budget is promised: the sequence exists and begins with the cached prefix.
struct offer {
  ticket_id ticket{};
  sequence_id sequence{};
  std::uint32_t cached_tokens = 0;
  std::uint32_t pages = 0;  ///< promised beyond the cached ones
};

/// Not now: wait in line. The offer comes by itself unless the ticket is declined.
struct counter_offer {
  ticket_id ticket{};
  std::uint32_t position = 0;                          ///< 1: next
  std::optional<std::chrono::milliseconds> estimate;   ///< nothing while there is no experience
  bool for_prefix = false;  ///< waits for pages that another request is computing, not for memory
};

/// Never: more than the whole pool.
struct refusal {
  std::uint64_t needed_tokens = 0;
  std::uint64_t available_tokens = 0;
};

using budget_answer = std::variant<offer, counter_offer, refusal>;

/// Tokens that a step will append to a sequence.
struct lease_item {
  sequence_id sequence{};
  std::uint32_t num_tokens = 0;
  std::vector<token_id> generated;  ///< those of them that are not prompt tokens
};

/// What one item of a lease got.
struct lease_grant {
  enum class outcome : std::uint8_t {
    granted,
    denied,  ///< no page free at the moment; ask again
    gone     ///< no such sequence (released meanwhile)
  };
  sequence_id sequence{};
  outcome what = outcome::gone;
  std::uint32_t first_position = 0;
  std::vector<page_id> table;
};

/// Pages for one step, pinned until end_step.
struct step_pages {
  std::uint64_t step = 0;
  std::vector<page_copy> copies;    ///< in order, before anything is read
  std::vector<lease_grant> grants;  ///< in the order of the items
  /// Pages from here to the end of the pool hold nothing.
  std::optional<std::uint32_t> trim_from_page;
  /// When to ask again although nobody wants pages: there may be memory to give back then.
  std::optional<std::chrono::milliseconds> tidy_in;
};

/// Decisions since start.
struct cache_counters {
  std::uint64_t offers = 0;
  std::uint64_t counter_offers = 0;
  std::uint64_t refusals = 0;
  std::uint64_t extensions = 0;
  std::uint64_t denied_extensions = 0;
  std::uint64_t recomputes = 0;     ///< requests that gave their pages up and came back
  std::uint64_t expired_offers = 0;
  std::uint64_t prefix_waits = 0;   ///< counter-offers because another request computes the prefix
  std::uint64_t cached_tokens = 0;  ///< prompt tokens that did not have to be computed
  std::uint64_t denied_leases = 0;
  std::uint64_t page_copies = 0;    ///< pages copied to un-share them
  std::uint64_t lost_sequences = 0;
};

class cache_accounts {
 public:
  struct options {
    budget_ledger::options ledger;
    bool prefix_cache = true;
    defragment_options defragment;
    std::uint32_t min_pages = 0;             ///< kept resident when idle, with the latest prefixes
    std::chrono::milliseconds idle{5000};    ///< without a request coming or going: load has fallen
    std::uint64_t index_seed = 0;
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
  /// Makes offers to those in the queue whose turn has come and takes expired offers back. To be
  /// called after anything that may have freed pages. Cost: O(offers made), O(1) if nothing changed.
  std::vector<offer> serve_queue(moment now);
  /// Whether an offer stands that nobody has answered yet.
  bool is_offered(ticket_id ticket) const { return ledger_.is_offered(ticket); }
  /// Whether offers may expire unanswered, so that serve_queue must be called without an event.
  bool has_open_offers() const noexcept { return ledger_.open_offers() > 0; }

  // --- sequences -------------------------------------------------------------------------------
  /// Raises the budget of a sequence that does not fork. Errors: sequence_not_found, out_of_pages (not
  /// now: going on would break a promise to somebody else).
  result<void> extend(sequence_id sequence, std::uint64_t sequence_tokens);
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
  /// has come or gone for a while, drops prefixes down to the minimum and marks the pages behind for
  /// the operating system.
  step_pages lease(std::uint64_t step, std::span<const lease_item> items, bool idle = false,
                   moment now = {});
  /// Ends the lease. When the step succeeded its full pages become known to the prefix index, but for
  /// those of sequences that were `not_run` in the end; when it failed, returns the sequences whose
  /// pages may not hold what they should.
  std::vector<sequence_id> end_step(std::uint64_t step, bool succeeded,
                                    std::span<const sequence_id> not_run = {});

  const page_store& store() const noexcept { return store_; }
  const budget_ledger& ledger() const noexcept { return ledger_; }
  const cache_counters& counters() const noexcept { return counters_; }
  prefix_stats prefix() const { return index_.stats(); }
  std::size_t waiting() const noexcept { return ledger_.waiting(); }
  /// Verifies the store's invariants and that promises can be kept. Errors: internal.
  result<void> check() const;

 private:
  /// One negotiation, from the first question to the last sequence's end.
  struct account {
    budget_terms terms;
    std::vector<std::uint64_t> hashes;  ///< of the prompt's full pages that may come from the cache
    std::uint64_t waits_for = 0;        ///< hash of a page that another request computes
    moment waits_since{};
    std::uint32_t unforked = 0;         ///< sequences still to be forked from the first
    std::uint32_t final_pages = 0;      ///< of one sequence's table when it ends
    std::vector<sequence_id> members;
  };
  struct member {
    ticket_id ticket{};
    std::vector<token_id> tokens;    ///< known: the prompt, then what was generated
    std::uint32_t stored = 0;        ///< written, or being written by the live lease
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
  };

  cache_accounts(page_store store, options chosen);

  std::uint32_t pages_needed(const budget_terms& terms, std::uint64_t sequence_tokens) const;
  bool fits(std::uint64_t pages) const;
  bool waits_for_prefix(account& asked, moment now);
  std::optional<offer> try_offer(ticket_id ticket, account& asked, moment now);
  std::uint32_t open_pages(const account& held) const;
  void settle(ticket_id ticket, const account& held);
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
  prefix_watch watch_;
  cache_counters counters_;
  std::unordered_map<ticket_id, account> accounts_;
  std::unordered_map<sequence_id, member> members_;
  std::optional<live_lease> live_;
  std::uint64_t last_ticket_ = 0;
  std::uint32_t touched_pages_ = 0;  ///< pages below this may be resident in memory
  moment last_activity_{};           ///< when a request last came or went
  bool changed_ = false;             ///< something may let the queue move
};

}  // namespace quire
