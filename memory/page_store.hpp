// Accounting of the paged, copy-on-write store: sequences, block tables, reference counts, the free
// list, statistics, defragmentation and leases. Pure logic: it never touches page bytes. What must
// happen to bytes comes back as page_copy values, to be applied (page_pool::apply) before the
// target page is read or written. Not thread-safe; in the engine the cache manager actor owns it.
// A failed operation changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"
#include "memory/page_set.hpp"
#include "memory/sequence_slots.hpp"

namespace quire {

/// Copy `tokens` filled tokens (all layers) from one page to another.
struct page_copy {
  page_id from{};
  page_id to{};
  std::uint32_t tokens = 0;
};

/// Counts since construction, but for the *_pages and active figures, which are of now.
struct store_stats {
  std::uint64_t sequences_allocated = 0;
  std::uint64_t sequences_freed = 0;
  std::uint64_t active_sequences = 0;
  std::uint64_t pages_allocated = 0;
  std::uint64_t pages_freed = 0;
  std::uint64_t used_pages = 0;  ///< physical pages, a shared one counted once
  std::uint64_t free_pages = 0;
  std::uint64_t cow_operations = 0;
  std::uint64_t defrag_operations = 0;
  std::uint64_t pages_moved = 0;
};

/// The holes of the pool. The definitions are those of the store's contract.
struct fragmentation_stats {
  std::uint64_t holes = 0;                ///< maximal free runs strictly between used pages
  std::uint64_t wasted_capacity = 0;      ///< tokens: used pages x page_tokens - tokens stored
  double fragmentation_ratio = 0.0;       ///< min(1, holes / used pages)
  std::uint64_t largest_free_region = 0;  ///< pages
  double avg_tokens_per_page = 0.0;
};

/// What is known of one page.
struct page_info {
  page_id page{};
  std::uint32_t ref_count = 0;
  std::uint32_t tokens = 0;  ///< tokens stored in it
  bool leased = false;
  bool shared() const noexcept { return ref_count > 1; }
};

/// Page to write to, and the copy that un-sharing it needs first.
struct writable_page {
  page_info info;
  std::optional<page_copy> copy;
};

/// Hears of the pages that were retained. Called in the middle of an operation: must not call the
/// store.
class page_use_listener {
 public:
  virtual ~page_use_listener() = default;
  /// A retained page became idle (its only reference is that one, and no lease pins it), or no
  /// longer is.
  virtual void on_page_use(page_id page, bool idle) noexcept = 0;
};

class page_store {
 public:
  /// Makes a store of num_pages free pages of page_tokens tokens. Errors: invalid_argument.
  static result<page_store> make(std::uint32_t num_pages, std::uint32_t page_tokens);

  std::uint32_t num_pages() const noexcept;
  std::uint32_t page_tokens() const noexcept;
  std::uint32_t free_pages() const noexcept;
  /// Returns one past the last page that is not free: where the tail for page_pool::trim begins.
  std::uint32_t tail_begin() const noexcept;
  std::uint32_t pages_for(std::uint64_t tokens) const noexcept;  ///< ceil(tokens / page_tokens)

  /// Adds free pages at the end, or removes free pages from the end (as far as the tail is free);
  /// returns the new number of pages.
  std::uint32_t resize(std::uint32_t num_pages);

  // --- sequences -----------------------------------------------------------------------------
  /// A new sequence with capacity for `tokens`, none stored. Errors: out_of_pages.
  result<sequence_id> allocate(std::uint64_t tokens);
  /// A new sequence whose table begins with these full, used pages, shared (a cached prefix), plus
  /// capacity for `tokens` in all. Stored tokens = pages x page_tokens. Errors: out_of_pages.
  result<sequence_id> allocate_shared(std::span<const page_id> prefix, std::uint64_t tokens);
  /// Makes room for `tokens` more than are stored. Errors: sequence_not_found, out_of_pages.
  result<void> extend(sequence_id id, std::uint64_t tokens);
  /// Sets the number of stored tokens, un-sharing every shared page that the growth writes into
  /// (the copies are appended to `copies`). Errors: sequence_not_found, out_of_bounds,
  /// out_of_pages.
  result<void> update_tokens(sequence_id id, std::uint64_t tokens, std::vector<page_copy>& copies);
  /// Drops stored tokens past `tokens` and returns whole pages. Errors: sequence_not_found,
  /// out_of_bounds (more than stored).
  result<void> truncate(sequence_id id, std::uint64_t tokens);
  /// A sequence sharing every page. Errors: sequence_not_found.
  result<sequence_id> fork(sequence_id id);
  /// Makes the sequence hold `known` instead of its own page at `index` of its table; both must be
  /// full and hold the same tokens. Returns false, and changes nothing, when its own page is shared
  /// or leased. Errors are defects: an unknown sequence, an index past the table, a page not full.
  bool adopt(sequence_id id, std::uint32_t index, page_id known);
  /// Drops the sequence; unknown ids are ignored and change no statistic.
  void free(sequence_id id);

  result<page_info> page_for_reading(sequence_id id, std::uint64_t position) const;
  result<writable_page> page_for_writing(sequence_id id, std::uint64_t position);
  /// physical page x page_tokens + position mod page_tokens. Errors: out_of_bounds.
  result<std::uint64_t> slot(sequence_id id, std::uint64_t position) const;
  result<std::uint64_t> tokens(sequence_id id) const;
  result<std::uint64_t> capacity(sequence_id id) const;  ///< pages held x page_tokens
  result<double> contiguity(sequence_id id) const;
  /// The block table; valid until the sequence changes. Errors: sequence_not_found.
  result<std::span<const page_id>> table(sequence_id id) const;

  // --- references that are not sequences (the prefix index), and leases ------------------------
  void retain(page_id page);   ///< adds a reference to a used page
  void release(page_id page);  ///< drops one; at zero the page is free
  page_info info(page_id page) const;
  /// Adds or removes a listener. A store with listeners must not be moved.
  void add_listener(page_use_listener& listener);
  void remove_listener(page_use_listener& listener);
  /// Pins the pages of a table while a step reads and writes them. A leased page is never moved;
  /// when its last reference goes it becomes free only at unlease.
  void lease(std::span<const page_id> pages);
  void unlease(std::span<const page_id> pages);

  // --- defragmentation -------------------------------------------------------------------------
  bool should_defragment(double threshold = 0.3) const;
  /// Makes one table ascending and adjacent where it can; returns pages moved, copies appended.
  std::uint32_t compact(sequence_id id, std::vector<page_copy>& copies);
  /// Closes holes and packs used pages to the front, at most max_moves pages; leased pages stay.
  std::uint32_t defragment(std::uint32_t max_moves, std::vector<page_copy>& copies);
  /// Pages that were moved since the last call, so that holders of ids outside (the prefix index)
  /// can follow: {from, to}.
  std::vector<std::pair<page_id, page_id>> take_moves();

  store_stats stats() const;
  fragmentation_stats fragmentation() const;
  double utilization_percent() const noexcept;

  /// Verifies every invariant of the contract; O(pages + tables). Errors: internal, naming what
  /// broke. `outside_references` are those of the prefix index, one entry per reference.
  result<void> check(std::span<const page_id> outside_references = {}) const;

 private:
  /// An entry of a block table: which sequence, by slot, and where in its table.
  struct holder {
    std::uint32_t slot = sequence_slots::none;
    std::uint32_t index = 0;
    bool none() const noexcept { return slot == sequence_slots::none; }
  };
  struct page_state {
    std::uint32_t ref_count = 0;  ///< table entries + outside
    std::uint32_t tokens = 0;     ///< the most that a holder sees
    std::uint32_t leases = 0;
    std::uint32_t outside = 0;         ///< references taken by retain
    std::uint32_t outside_tokens = 0;  ///< tokens that those see
    bool idle = false;                 ///< held by one reference from outside alone, not leased
    holder first;                      ///< list of the table entries that hold the page
  };
  struct links {
    holder next;
    holder previous;
  };
  struct sequence_state {
    sequence_id id{};
    std::uint64_t tokens = 0;
    std::vector<page_id> table;
    std::vector<links> entries;  ///< beside the table: the lists of holders
  };

  page_store() = default;
  page_state& at(page_id id) noexcept { return pages_[to_index(id)]; }
  const page_state& at(page_id id) const noexcept { return pages_[to_index(id)]; }
  sequence_state* find(sequence_id id) noexcept;
  const sequence_state* find(sequence_id id) const noexcept;
  std::uint32_t slot_of(const sequence_state& s) const noexcept;
  std::uint32_t new_slot();
  links& links_of(holder h) noexcept { return slots_[h.slot].entries[h.index]; }
  std::uint32_t view(const sequence_state& s, std::uint32_t index) const noexcept;

  page_id take_page(std::uint32_t preferred);
  std::uint32_t place_for(const sequence_state& s, std::uint32_t pages) const noexcept;
  void append_pages(sequence_state& s, std::uint32_t pages);
  void attach(page_id id, holder h) noexcept;
  void detach(page_id id, holder h) noexcept;
  void note_use(page_id id) noexcept;
  void drop_back(sequence_state& s) noexcept;
  void settle(page_id id) noexcept;
  void refresh_tokens(page_id id) noexcept;
  void set_tokens(page_id id, std::uint32_t tokens) noexcept;
  page_copy unshare(sequence_state& s, std::uint32_t index);
  std::uint32_t holes() const noexcept;

  void move_page(page_id from, page_id to, std::vector<page_copy>& copies);
  page_id neighbour_for(std::uint32_t hole, std::uint32_t room) const noexcept;
  std::uint32_t highest_movable(std::uint32_t before) const noexcept;
  std::uint32_t run_length(const sequence_state& s, std::uint32_t index,
                           std::uint32_t longest) const noexcept;
  std::uint32_t run_begin(const sequence_state& s, std::uint32_t index) const noexcept;
  holder chain_to(std::uint32_t last, std::uint32_t hole, std::uint32_t room) const noexcept;
  std::uint32_t outside_run(std::uint32_t last, std::uint32_t room) const noexcept;
  std::uint32_t best_start(const sequence_state& s) const;
  template <class WantedBy>
  std::uint32_t follow(sequence_state& s, std::uint32_t index, std::uint32_t to,
                       const WantedBy& wanted_by, std::vector<page_copy>& copies);
  template <class Target, class WantedBy>
  std::uint32_t permute(sequence_state& s, const Target& target, const WantedBy& wanted_by,
                        std::vector<page_copy>& copies);
  std::uint32_t gather(sequence_state& s, std::uint32_t start, std::vector<page_copy>& copies);
  std::uint32_t sort_table(sequence_state& s, std::vector<page_copy>& copies);
  std::uint32_t close_gaps(sequence_state& s, std::vector<page_copy>& copies);
  result<void> check_pages() const;
  result<void> check_holders(const page_state& p, std::uint32_t index) const;
  result<void> check_tables() const;

  std::uint32_t page_tokens_ = 0;
  std::vector<page_state> pages_;
  page_set free_;
  std::uint64_t stored_tokens_ = 0;  ///< sum of the pages' tokens
  std::vector<sequence_state> slots_;
  std::vector<std::uint32_t> vacant_slots_;
  sequence_slots slot_by_id_;
  std::uint64_t last_id_ = 0;
  std::vector<std::pair<page_id, page_id>> moves_;
  std::vector<page_use_listener*> listeners_;
  store_stats counts_;
};

}  // namespace quire
