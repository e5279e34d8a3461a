// What is said to the cache manager and what it answers: plain data, shared by the accounts that
// decide, the actors that carry it, and the batcher that acts on it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/moment.hpp"
#include "actors/ticket.hpp"
#include "core/ids.hpp"
#include "memory/page_park.hpp"
#include "memory/page_store.hpp"

namespace quire {

/// What a request asks the cache manager for.
struct budget_terms {
  request_id request{};
  std::string user;  ///< whom it counts for
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint64_t sequence_tokens = 0;  ///< most tokens that one sequence stores under this budget
  std::uint64_t least_tokens = 0;  ///< a smaller budget that would do to begin with; 0: none would
  std::uint64_t final_tokens = 0;  ///< most it may grow to by extension; 0: no more than that
  std::uint64_t shared_tokens =
      0;  ///< stored before the sequence forks; counts if num_sequences > 1
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
  std::uint32_t cached_tokens = 0;  ///< stored already: cached, or parked before
  std::uint32_t pages = 0;          ///< promised beyond those
  std::uint64_t sequence_tokens =
      0;  ///< what the sequence may store; less than asked: a smaller budget
};

/// Not now: wait in line. The offer comes by itself unless the ticket is declined.
struct counter_offer {
  ticket_id ticket{};
  std::uint32_t position = 0;                         ///< 1: next
  std::optional<std::chrono::milliseconds> estimate;  ///< nothing while there is no experience
  bool for_prefix = false;  ///< waits for pages that another request is computing, not for memory
};

/// Never: more than the whole pool.
struct refusal {
  std::uint64_t needed_tokens = 0;
  std::uint64_t available_tokens = 0;
};

using budget_answer = std::variant<offer, counter_offer, refusal>;

/// Pages are short: will you give up yours?
struct yield_ask {
  ticket_id ticket{};
  sequence_id sequence{};
  std::uint32_t pages = 0;  ///< that it holds or is promised
  moment until;             ///< silence by then counts as recompute
};

/// What a request answers to that.
enum class yield_choice : std::uint8_t {
  park,       ///< keep my pages for me, and give them back when there is room
  recompute,  ///< I have released my sequence
  refuse      ///< no: I shall be done soon
};

/// The answer to an extension that had to wait for others to yield.
struct growth_answer {
  sequence_id sequence{};
  bool granted = false;
};

/// A request has lost its pages, parked or not: it must ask anew and compute again.
struct taken_back {
  ticket_id ticket{};
  std::optional<sequence_id> sequence;  ///< nothing: it was parked
};

/// What the manager has to tell somebody after serving.
using cache_effect = std::variant<offer, yield_ask, growth_answer, taken_back>;

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

/// Bytes that leave the pool and come back at the beginning of a step, in this order.
struct page_exchange {
  std::vector<park_id> drops;  ///< copies nobody wants any more
  std::vector<park_order> parks;
  std::vector<unpark_order> unparks;
  bool empty() const noexcept { return drops.empty() && parks.empty() && unparks.empty(); }
};

/// A sequence that has ended because its pages left the pool; its request waits under the ticket.
struct parked_sequence {
  ticket_id ticket{};
  sequence_id sequence{};
};

/// Pages for one step, pinned until end_step.
struct step_pages {
  std::uint64_t step = 0;
  page_exchange exchange;               ///< before the copies
  std::vector<parked_sequence> parked;  ///< what the exchange parks, in the order of its parks
  std::vector<page_copy> copies;        ///< in order, before anything is read
  std::vector<lease_grant> grants;      ///< in the order of the items
  /// Pages from here to the end of the pool hold nothing.
  std::optional<std::uint32_t> trim_from_page;
  /// When to ask again although nobody wants pages: there may be memory to give back then.
  std::optional<std::chrono::milliseconds> tidy_in;
};

/// How a step went, for the pages.
struct step_end {
  bool succeeded = true;
  std::vector<sequence_id> not_run;    ///< sequences that were leased and left out in the end
  std::vector<park_id> not_exchanged;  ///< copies that could not be made or read
};

/// Decisions since start.
struct cache_counters {
  std::uint64_t offers = 0;
  std::uint64_t smaller_offers = 0;  ///< offers of less than was asked for
  std::uint64_t counter_offers = 0;
  std::uint64_t refusals = 0;
  std::uint64_t extensions = 0;
  std::uint64_t denied_extensions = 0;
  std::uint64_t reclaims = 0;        ///< requests asked to yield
  std::uint64_t refused_yields = 0;  ///< of those: no
  std::uint64_t silent_yields = 0;   ///< of those: no answer in time
  std::uint64_t parks = 0;
  std::uint64_t parks_to_disk = 0;   ///< of those
  std::uint64_t park_overflows = 0;  ///< wanted to park and had to recompute: no room
  std::uint64_t failed_parks = 0;    ///< bytes could not be written or read back
  std::uint64_t resumes = 0;         ///< parked requests that got their pages back
  std::uint64_t recomputes = 0;      ///< requests that gave their pages up and came back
  std::uint64_t expired_offers = 0;
  std::uint64_t prefix_waits = 0;   ///< counter-offers because another request computes the prefix
  std::uint64_t cached_tokens = 0;  ///< prompt tokens that did not have to be computed
  std::uint64_t denied_leases = 0;
  std::uint64_t page_copies = 0;  ///< pages copied to un-share them
  std::uint64_t lost_sequences = 0;
};

}  // namespace quire
