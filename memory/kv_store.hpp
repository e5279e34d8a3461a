// The paged store with its data: accounting (page_store), bytes (page_pool) and the codecs of rows
// in one object that applies copies at once. For replay, tests and tools; the engine keeps the
// parts apart, because there the manager accounts while the runner writes. Not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compute/kernels.hpp"
#include "compute/kv_layout.hpp"
#include "core/error.hpp"
#include "memory/page_pool.hpp"
#include "memory/page_store.hpp"

namespace quire {

/// Bytes of the store. `ratio` is used_bytes / f32_bytes, 1.0 while nothing is used.
struct kv_memory {
  std::uint64_t page_bytes = 0;
  std::uint64_t used_bytes = 0;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t f32_bytes = 0;  ///< what the used pages would take if all values were f32
  double ratio = 1.0;
};

/// Which row of a token.
struct kv_row {
  std::uint32_t layer = 0;
  kv_part part = kv_part::key;
  std::uint32_t head = 0;
};

class kv_store {
 public:
  /// Errors: invalid_argument, io_error (no address space).
  static result<kv_store> make(const kv_layout& layout, std::uint32_t num_pages);

  const kv_layout& layout() const noexcept { return pool_.layout(); }
  /// The accounting, for everything that only asks.
  const page_store& pages() const noexcept { return store_; }

  // The operations of page_store, with the copies that they need done; see there for the errors.
  result<sequence_id> allocate(std::uint64_t tokens);
  result<void> extend(sequence_id id, std::uint64_t tokens);
  /// Rows that become stored without having been put read as zeros.
  result<void> update_tokens(sequence_id id, std::uint64_t tokens);
  result<void> truncate(sequence_id id, std::uint64_t tokens);
  result<sequence_id> fork(sequence_id id);
  void free(sequence_id id);
  /// Un-shares the page of the position and returns it.
  result<writable_page> page_for_writing(sequence_id id, std::uint64_t position);
  std::uint32_t compact(sequence_id id);
  std::uint32_t defragment(std::uint32_t max_moves);
  std::uint32_t resize(std::uint32_t num_pages);
  /// Gives the bytes of the free tail back to the operating system; returns how many were resident.
  std::size_t trim();

  /// Stores head_dim values as one row. A position past the stored tokens becomes stored, and those
  /// before it. Errors: invalid_argument (layer, head or number of values; NaN, infinite or too
  /// large for the type), sequence_not_found, invalid_page_access, out_of_pages.
  result<void> put(sequence_id id, std::uint64_t position, kv_row row,
                   std::span<const float> values);
  /// Reads one row into `values` (head_dim); zeros when it was never put or is not stored any more.
  /// Errors: invalid_argument (layer, head or number of values), sequence_not_found,
  /// invalid_page_access.
  result<void> get(sequence_id id, std::uint64_t position, kv_row row, std::span<float> values);

  kv_memory memory() const;
  result<void> check() const { return store_.check(); }

 private:
  kv_store(page_store store, page_pool pool, const kernel_table& kernels);
  result<void> check_row(kv_row row, std::size_t num_values) const;
  std::byte* row_of(page_id page, std::uint64_t position, kv_row row) noexcept;
  void remember_pages(sequence_id id, std::uint64_t from_token);
  void apply_copies();
  void follow_moves();
  void scrub(page_id page) noexcept;

  page_store store_;
  page_pool pool_;
  const kernel_table* kernels_;
  std::vector<bool> written_;       ///< by page: it may hold bytes that are not zero
  std::vector<std::byte> encoded_;  ///< one row
  std::vector<page_copy> copies_;
  std::vector<page_id> touched_;
};

}  // namespace quire
