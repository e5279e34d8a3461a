// Causal grouped-query attention over paged keys and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/context.hpp"
#include "compute/kv_layout.hpp"
#include "core/ids.hpp"

namespace quire {

/// One sequence's share of a step: `num_tokens` new tokens at positions first_position onwards.
/// Their rows in q, k, v and out are first_row onwards.
struct attention_sequence {
  std::span<const page_id> table;    ///< pages covering [0, first_position + num_tokens)
  std::uint32_t first_position = 0;  ///< tokens already stored
  std::uint32_t num_tokens = 0;
  std::uint32_t first_row = 0;
};

/// Where one layer's keys and values live.
struct paged_kv {
  std::byte* pages = nullptr;  ///< page p begins at pages + p * layout->page_bytes
  const kv_layout* layout = nullptr;
  std::uint32_t layer = 0;
};

/// Encodes the new tokens' keys and values, (num_rows, kv_heads * head_dim) with the given stride,
/// into their slots. The written pages must be unshared. Splits over sequences and heads.
void store_kv(const compute_context& context, const paged_kv& kv,
              std::span<const attention_sequence> sequences, const float* k, const float* v,
              std::size_t stride);

class prefix_sharing;  // compute/ops/shared_prefix.hpp

/// Computes softmax(scale * q k^T, causal) v for every new token of every sequence.
struct attention_args {
  paged_kv kv;
  std::span<const attention_sequence> sequences;
  const float* q = nullptr;  ///< (num_rows, num_heads * head_dim), stride q_stride
  std::size_t q_stride = 0;
  float* out = nullptr;  ///< (num_rows, num_heads * head_dim), stride out_stride
  std::size_t out_stride = 0;
  std::uint32_t num_heads = 0;  ///< query heads, a multiple of kv_heads
  float scale = 1.0f;
  /// What find() found for these sequences: read once for all that share it. Null: nothing.
  const prefix_sharing* sharing = nullptr;
  std::uint32_t window = 0;  ///< a token sees itself and window - 1 before it; 0: all before it
};

/// Online softmax (Dao et al. 2022) over pages read in place, all query heads of one key head
/// together, long contexts split over threads with a merge whose order does not depend on the
/// threads.
void attention(const compute_context& context, const attention_args& args);

}  // namespace quire
