// Query rows against the keys and values of a run of positions, a block of 64 positions at a time,
// by matrix products and an online softmax: in integers where the kernels have such products for
// the stored type, else over blocks decoded to f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/attention_kernels.hpp"
#include "compute/kv_layout.hpp"
#include "compute/ops/attention_scratch.hpp"

namespace quire {

/// Positions [low, high) that a query row sees.
struct visible_range {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
};

/// Positions [begin, end) of some rows: what will be read after a run.
struct position_run {
  const paged_rows* rows = nullptr;  ///< null: nothing
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// Which parts of the store are multiplied as they are.
struct packed_parts {
  bool keys = false;
  bool values = false;

  /// What `kernels` have for the types of `layout`. A row's bits may depend on which keys are
  /// packed with it, but for keys' scores: so with `row_independent` values are not.
  static packed_parts of(const attention_kernels& kernels, const kv_layout& layout,
                         bool row_independent) noexcept;
};

class attention_tile {
 public:
  /// Positions per block; blocks begin at multiples of it, so that what a row sums up, and in which
  /// order, does not depend on how a prompt was cut.
  static constexpr std::uint32_t block = packed_block;

  /// Query rows whose scores are in hand at a time: they stay in the first cache beside a block.
  static constexpr std::size_t tile_rows = 48;

  /// Takes its memory from `scratch`, which has scratch_floats() for it. `queries`, (rows,
  /// padded_dim), are scaled for exponentials to base 2; row r sees visible[r].
  attention_tile(const attention_kernels& kernels, const kv_layout& layout, packed_parts packed,
                 const float* queries, std::span<const visible_range> visible, carver& scratch);

  static std::size_t scratch_floats(std::size_t num_rows, std::size_t dim) noexcept;

  /// Computes the rows' results over positions [begin, end) into `result`, meanwhile asking memory
  /// for the first block of `next`.
  void run(const paged_rows& rows, std::uint32_t begin, std::uint32_t end, position_run next,
           const partial_result& result) const noexcept;

 private:
  void load_block(const paged_rows& rows, std::uint32_t first, std::uint32_t last,
                  position_run next) const noexcept;
  void decode_part(const paged_rows& rows, kv_part part, std::uint32_t first,
                   std::uint32_t last) const noexcept;
  void attend_block(std::uint32_t first, std::uint32_t last,
                    const partial_result& result) const noexcept;
  void attend_rows(std::uint32_t first, std::uint32_t last, std::size_t first_row,
                   std::size_t num_rows, const partial_result& result) const noexcept;

  const attention_kernels& kernels_;
  const kv_layout& layout_;
  packed_parts packed_;
  const float* queries_;
  std::span<const visible_range> visible_;
  std::size_t dim_;
  float* scores_;        // (rows, block)
  float* factors_;       // (rows)
  std::uint32_t* lows_;  // (rows): columns that a row sees of the block in hand
  std::uint32_t* highs_;
  float* keys_;     // (padded_dim, block), unless packed
  float* values_;   // (block, padded_dim), unless packed
  float* turning_;  // (transpose_rows, padded_dim)
  packed_queries packed_queries_;
  packed_keys packed_keys_;
  packed_values packed_values_;
};

/// Lists the stretches of memory that hold one part of positions [begin, end), one per page and at
/// most `most`; returns how many.
std::size_t list_stretches(const paged_rows& rows, kv_part part, std::size_t begin, std::size_t end,
                           std::size_t most, row_fetch* out) noexcept;

/// Returns where the page of a position begins.
inline const std::byte* page_of(const paged_rows& rows, std::size_t position) noexcept {
  return rows.pages + to_index(rows.table[position / rows.page_tokens]) * rows.page_bytes;
}

}  // namespace quire
