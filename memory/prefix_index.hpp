// Finds pages that already hold the beginning of a prompt: a chained 64-bit hash per full page,
// verified against the tokens. Holds real references in the page store.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/ids.hpp"
#include "memory/page_store.hpp"

namespace quire {

struct prefix_stats {
  std::uint64_t lookups = 0;
  std::uint64_t hits = 0;  ///< lookups that found at least one page
  std::uint64_t misses = 0;
  std::uint64_t evictions = 0;     ///< pages
  std::uint64_t tokens_saved = 0;  ///< counted at the hit
  std::uint64_t pages = 0;         ///< entries of now
};

class prefix_index {
 public:
  /// `seed` separates models, KV types and adapters. `store` outlives the index and stays in its
  /// place. Hashes are cut to `hash_mask`: tests use it to make them collide.
  prefix_index(page_store& store, std::uint64_t seed, std::uint64_t hash_mask = ~std::uint64_t{0});
  ~prefix_index();
  prefix_index(prefix_index&&) noexcept;
  prefix_index& operator=(prefix_index&&) noexcept;

  /// Returns the pages of the longest indexed prefix of `tokens`, full pages only, at most
  /// `max_tokens` tokens, and counts a hit or a miss. Take references (allocate_shared) at once.
  std::vector<page_id> lookup(std::span<const token_id> tokens, std::uint64_t max_tokens);
  /// Like lookup but counts nothing and touches no age.
  std::uint32_t match_pages(std::span<const token_id> tokens, std::uint64_t max_tokens) const;
  /// A page of a table beside the page that the index knows for the same tokens.
  struct twin {
    std::uint32_t index = 0;  ///< in the table
    page_id known{};
  };
  /// Indexes the full pages of a sequence that holds `tokens` in `table`; known ones are skipped,
  /// and returned where the table has another page for them (page_store::adopt makes it the same).
  /// O(pages not yet indexed) when called with the same growing sequence through `from_page`.
  std::vector<twin> insert(std::span<const token_id> tokens, std::span<const page_id> table,
                           std::uint32_t from_page = 0);
  /// Frees up to `pages` pages that only the index holds, least recently used first, leaf first;
  /// returns how many became free. O(log entries) per page.
  std::uint32_t evict(std::uint32_t pages);
  /// Pages that evict could free now: only the index holds them and all that continue them. O(1).
  std::uint32_t evictable_pages() const;
  /// Follows moves of the page store; call it before the next lookup, insert or evict.
  void on_moves(std::span<const std::pair<page_id, page_id>> moves);
  void clear();
  prefix_stats stats() const;
  /// Every page reference held, for page_store::check.
  std::vector<page_id> references() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace quire
