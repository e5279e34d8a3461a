// How one attention call is cut into work: groups of query rows that share keys, and chunks of
// positions within a group. Where the cuts fall depends on each sequence and on whom it shares a
// prefix with, never on the threads; with row_independent on the sequence alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "compute/ops/attention.hpp"
#include "compute/ops/attention_scratch.hpp"
#include "compute/ops/attention_tile.hpp"
#include "compute/ops/shared_prefix.hpp"
#include "compute/ops/work_split.hpp"

namespace quire {

/// Query rows that go with one key head and see the same pages: tokens x heads per key head. They
/// are consecutive tokens of one sequence, or the only tokens of several sequences with a common
/// prefix.
struct query_group {
  std::uint32_t sequence = 0;     ///< unless shared
  std::uint32_t first_query = 0;  ///< token of the sequence's share of the step
  std::uint32_t num_queries = 0;  ///< tokens
  std::uint32_t kv_head = 0;
  bool blocked = false;  ///< by attention_tile; else one token by the in-place kernels
  std::span<const std::uint32_t> members{};  ///< sequences, if shared
  std::uint32_t begin = 0;                   ///< first position that any of them sees
  std::uint32_t end = 0;                     ///< one past the last
  std::uint32_t num_chunks = 0;
  std::uint32_t num_shared = 0;  ///< partial results of shared groups that belong to it
  std::size_t partial = 0;       ///< where its partial results begin, if there are several

  /// Whether its only chunk is its result.
  bool is_whole() const noexcept { return members.empty() && num_chunks + num_shared == 1; }
};

/// Positions [begin, end) for one group; `chunk` counts from the group's first.
struct attention_item {
  std::uint32_t group = 0;
  std::uint32_t chunk = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// What a shared group has computed for one of its members: rows [first_row, + heads per key head)
/// of a partial result of `num_rows` rows.
struct shared_part {
  std::uint32_t group = 0;  ///< of the member's own part
  std::size_t partial = 0;
  std::size_t num_rows = 0;
  std::size_t first_row = 0;
};

/// What the cuts depend on besides the sequences.
struct attention_plan_options {
  bool row_independent = false;  ///< lone tokens go the way of prefill, and nothing is shared
  bool packed = false;           ///< keys and values are multiplied as stored
};

/// The work of one call. Keeps its memory between calls.
class attention_plan {
 public:
  /// Positions per chunk for one query token, for tokens that share a prefix, for many of one
  /// sequence, and with row_independent for all.
  static constexpr std::uint32_t decode_chunk = 256;
  static constexpr std::uint32_t shared_chunk = 512;
  static constexpr std::uint32_t prefill_chunk = 4096;
  static constexpr std::uint32_t invariant_chunk = 1024;
  /// Query rows up to which reading quantized rows in place costs less than rearranging them.
  static constexpr std::uint32_t most_lone_rows = 4;
  /// Query rows that a group aims at: enough to pay for decoding the keys they share.
  static constexpr std::uint32_t group_rows = 96;
  /// Positions from which on a group takes twice as many: there are enough of them for all threads.
  static constexpr std::uint32_t deep_prompt = 2048;

  void make(const attention_args& args, const attention_plan_options& options);

  const std::vector<query_group>& groups() const noexcept { return groups_; }
  const std::vector<attention_item>& items() const noexcept { return items_; }
  work_split& split() noexcept { return split_; }
  std::size_t num_partial_floats() const noexcept { return num_partial_floats_; }
  /// Returns the partial results that shared groups computed for a group, in the order of
  /// positions.
  std::span<const shared_part> shared_parts(std::size_t group) const noexcept {
    return std::span(shared_parts_).subspan(first_shared_[group], groups_[group].num_shared);
  }

  /// Notes that a part of a group is done; true for the last one of the group.
  bool finish_part(std::size_t group) noexcept {
    return parts_left_[group].fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  /// Returns the group of a lone token's own part.
  std::size_t group_of(std::uint32_t sequence, std::uint32_t kv_head) const noexcept {
    return group_of_[sequence] + kv_head;
  }

 private:
  void add_own(const attention_args& args, const attention_plan_options& options, bool prefill);
  void add_shared(const attention_args& args, const shared_run& run);
  void add_group(const attention_args& args, query_group group, std::uint32_t chunk);
  void list_shared_parts(std::size_t heads_per_kv, std::size_t dim);
  void reset_counters();

  std::vector<query_group> groups_;
  std::vector<attention_item> items_;
  std::vector<std::size_t> group_of_;      // per sequence, for lone tokens
  std::vector<shared_part> shared_parts_;  // by group
  std::vector<std::size_t> first_shared_;  // per group
  work_split split_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> parts_left_;
  std::size_t parts_capacity_ = 0;
  std::size_t num_partial_floats_ = 0;
};

/// Returns the first position that a token at `position` sees.
constexpr std::uint32_t first_visible(std::uint32_t position, std::uint32_t window) noexcept {
  return window != 0 && position + 1 > window ? position + 1 - window : 0;
}

}  // namespace quire
