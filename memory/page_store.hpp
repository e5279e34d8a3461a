// Accounting of the paged, copy-on-write store: sequences, block tables, reference counts, the free
// list, statistics, defragmentation and leases. Pure logic: it never touches page bytes. What must
// happen to bytes comes back as page_copy values, to be applied (page_pool::apply) before the target
// page is read or written. Not thread-safe; in the engine the cache manager actor owns it.
// A failed operation changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"

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
  std::uint64_t holes = 0;            ///< maximal free runs strictly between used pages
  std::uint64_t wasted_capacity = 0;  ///< tokens: used pages x page_tokens - tokens stored
  double fragmentation_ratio = 0.0;   ///< min(1, holes / used pages)
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

class page_store {
 public:
  /// Makes a store of num_pages free pages of page_tokens tokens. Errors: invalid_argument.
  static result<page_store> make(std::uint32_t num_pages, std::uint32_t page_tokens);

  std::uint32_t num_pages() const noexcept;
  std::uint32_t page_tokens() const noexcept;
  std::uint32_t free_pages() const noexcept;
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
  /// Sets the number of stored tokens, un-sharing every shared page that the growth writes into (the
  /// copies are appended to `copies`). Errors: sequence_not_found, out_of_bounds, out_of_pages.
  result<void> update_tokens(sequence_id id, std::uint64_t tokens, std::vector<page_copy>& copies);
  /// Drops stored tokens past `tokens` and returns whole pages. Errors: sequence_not_found,
  /// out_of_bounds (more than stored).
  result<void> truncate(sequence_id id, std::uint64_t tokens);
  /// A sequence sharing every page. Errors: sequence_not_found.
  result<sequence_id> fork(sequence_id id);
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
  /// Pins the pages of a table while a step reads and writes them. A leased page is never moved; when
  /// its last reference goes it becomes free only at unlease.
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

  /// Verifies every invariant of the contract; O(pages + tables). Errors: internal, naming what broke.
  /// `outside_references` are those of the prefix index, one entry per reference.
  result<void> check(std::span<const page_id> outside_references = {}) const;

 private:
  struct page {
    std::uint32_t ref_count = 0;
    std::uint32_t tokens = 0;
    std::uint32_t leases = 0;
  };
  struct sequence {
    std::vector<page_id> table;
    std::uint64_t tokens = 0;
  };
  std::vector<page> pages_;
  std::unordered_map<std::uint64_t, sequence> sequences_;
};

}  // namespace quire
