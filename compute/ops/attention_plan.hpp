// How one attention call is cut into work: groups of query rows that share keys, and chunks of
// positions within a group. The cuts depend on each sequence alone, never on the batch or the
// threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "compute/ops/attention.hpp"
#include "compute/ops/work_split.hpp"

namespace quire {

/// Query rows of one sequence that go with one key head: num_queries tokens x heads per key head.
struct query_group {
  std::uint32_t sequence = 0;
  std::uint32_t first_query = 0;  ///< token of the sequence's share of the step
  std::uint32_t num_queries = 0;
  std::uint32_t kv_head = 0;
  std::uint32_t begin = 0;  ///< first position that any of them sees
  std::uint32_t end = 0;    ///< one past the last
  std::uint32_t num_chunks = 0;
  bool blocked = false;     ///< computed as prefill: keys decoded and multiplied in blocks
  std::size_t partial = 0;  ///< where the group's partial results begin; unused for one chunk
};

/// Positions [begin, end) for one group; `chunk` counts from the group's first.
struct attention_item {
  std::uint32_t group = 0;
  std::uint32_t chunk = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// A group's results over one chunk lie as maxima (rows), sums (rows), values (rows, padded_dim).
constexpr std::size_t partial_floats(std::size_t rows, std::size_t dim) noexcept {
  return rows * (dim + 2);
}

/// The work of one call. Keeps its memory between calls.
class attention_plan {
 public:
  /// Positions per chunk for one query token, and for many.
  static constexpr std::uint32_t decode_chunk = 256;
  static constexpr std::uint32_t prefill_chunk = 1024;
  /// Query rows that a prefill group aims at: enough to pay for decoding the keys they share.
  static constexpr std::uint32_t prefill_rows = 96;

  /// Plans `args`. With `all_blocked`, lone tokens go the way of prefill too, so that a token's sums
  /// have the same order whatever it is computed with.
  void make(const attention_args& args, bool all_blocked);

  const std::vector<query_group>& groups() const noexcept { return groups_; }
  const std::vector<attention_item>& items() const noexcept { return items_; }
  work_split& split() noexcept { return split_; }
  std::size_t num_partial_floats() const noexcept { return num_partial_floats_; }

  /// Notes that a chunk of a group is done; true for the last one of the group.
  bool finish_chunk(std::size_t group) noexcept {
    return chunks_left_[group].fetch_sub(1, std::memory_order_acq_rel) == 1;
  }

 private:
  void add_group(const attention_args& args, query_group group);

  std::vector<query_group> groups_;
  std::vector<attention_item> items_;
  work_split split_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> chunks_left_;
  std::size_t chunks_capacity_ = 0;
  std::size_t num_partial_floats_ = 0;
};

/// Returns the first position that a token at `position` sees.
constexpr std::uint32_t first_visible(std::uint32_t position, std::uint32_t window) noexcept {
  return window != 0 && position + 1 > window ? position + 1 - window : 0;
}

}  // namespace quire
