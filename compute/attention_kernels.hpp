// The attention part of the kernel table: rows of the paged store encoded, decoded and attended to.
//
// There are three ways through it. Decoding (one new token) reads pages in place: `scores`,
// `softmax`, `weigh`. Prefill (many query rows against the same keys) decodes a block of keys and
// values to f32 once and multiplies: `decode`, `transpose`, `multiply`, `softmax_rows`, `multiply`.
// Where integer dot products exist, quantized rows are not decoded: decoding reads them in place by
// kernels of its own, and for many query rows a block of them is rearranged (`pack`) and multiplied
// as it is. Exponentials are to base 2: whoever prepares the queries scales them by log2(e).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "compute/kv_layout.hpp"
#include "core/ids.hpp"

namespace quire {

/// One sequence's keys and values of one layer and one key head.
struct paged_rows {
  const std::byte* pages = nullptr;  ///< page p begins at pages + p * page_bytes
  std::size_t page_bytes = 0;
  const page_id* table = nullptr;  ///< position / page_tokens indexes it
  std::size_t page_tokens = 0;
  std::size_t head_dim = 0;
  std::size_t offset_k = 0;  ///< of token 0's row within a page
  std::size_t offset_v = 0;
  std::size_t row_bytes_k = 0;
  std::size_t row_bytes_v = 0;
};

/// Query rows in scratch memory are padded with zeros to this many values.
constexpr std::size_t padded_dim(std::size_t head_dim) noexcept {
  return (head_dim + kv_block_values - 1) / kv_block_values * kv_block_values;
}

/// Scores of a row need room for this many values past the last.
inline constexpr std::size_t score_slack = 16;

/// Rows that one call of `transpose` takes.
inline constexpr std::size_t transpose_rows = 16;

/// Memory that a later step will read. Pages lie apart, where the hardware does not look ahead.
struct row_fetch {
  const std::byte* from;
  std::size_t bytes;
};

/// Keys of a block of packed keys or values.
inline constexpr std::size_t packed_block = 64;

/// Query rows quantized per 32 values, x ~ scale * code.
struct packed_queries {
  std::int8_t* codes = nullptr;    ///< (rows, padded_dim)
  float* scales = nullptr;         ///< (rows, padded_dim / 32)
  std::int32_t* starts = nullptr;  ///< like scales: minus the keys' bias times the sum of the codes
};

/// A block of keys, ready for dot products of 4 values at a time.
struct packed_keys {
  std::uint8_t* codes = nullptr;  ///< (padded_dim / 4, packed_block, 4), plus the type's bias
  float* scales = nullptr;        ///< (padded_dim / 32, packed_block)
};

/// A block of values, ready for sums over 2 keys at a time: value ~ code * factor * unit.
struct packed_values {
  std::int16_t* codes =
      nullptr;  ///< (padded_dim / 32, packed_block / 2, 32, 2), keys in kernel order
  std::int32_t* starts = nullptr;  ///< (padded_dim): 2^15 times the sums of the codes
  float* factors =
      nullptr;             ///< (padded_dim / 32, packed_block): the scales, the largest 2^16 - 256
  float* units = nullptr;  ///< (padded_dim / 32)
};

/// Integer products of quantized rows. A key's scores depend on that key and the query alone;
/// values share a unit per block, so a sum depends, within rounding to 16 bits, on which keys are
/// packed.
struct packed_kernels {
  /// Per type of keys; null where there are none.
  std::array<void (*)(const float* q, std::size_t num_rows, std::size_t dim,
                      const packed_queries& out) noexcept,
             num_kv_types>
      pack_queries;
  /// Packs positions [begin, end), which lie in one block of positions (a multiple of
  /// packed_block); what is beyond them holds copies. Asks for `num_fetch` stretches of memory
  /// meanwhile.
  std::array<void (*)(const paged_rows& rows, std::size_t begin, std::size_t end,
                      const packed_keys& out, const row_fetch* fetch,
                      std::size_t num_fetch) noexcept,
             num_kv_types>
      pack_keys;
  std::array<void (*)(const paged_rows& rows, std::size_t begin, std::size_t end,
                      const packed_values& out, const row_fetch* fetch,
                      std::size_t num_fetch) noexcept,
             num_kv_types>
      pack_values;
  /// The kernels of the same names below, for quantized queries and for weights in [0, 1]. Weights
  /// of up to 64 keys are rounded to 2^-17 of the largest scale among their values.
  std::array<void (*)(const paged_rows& rows, std::size_t begin, std::size_t end,
                      const packed_queries& q, std::size_t num_queries, float* scores,
                      std::size_t stride, const row_fetch* fetch) noexcept,
             num_kv_types>
      scores;
  std::array<void (*)(const paged_rows& rows, std::size_t begin, std::size_t end,
                      const float* weights, std::size_t stride, std::size_t num_queries, float* out,
                      const row_fetch* fetch) noexcept,
             num_kv_types>
      weigh_rows;
  /// scores (num_rows, columns) = q k, rows packed_block apart, rows [first, first + num_rows) of
  /// q; columns is a multiple of 16, up to packed_block.
  void (*dot)(const packed_queries& q, std::size_t first, std::size_t num_rows,
              const packed_keys& keys, std::size_t dim, std::size_t columns,
              float* scores) noexcept;
  /// out (num_rows, dim) = out * factors[row] + weights v over `columns` keys; weights are in [0,
  /// 1], packed_block apart.
  void (*weigh)(const float* weights, const float* factors, std::size_t num_rows,
                const packed_values& values, std::size_t dim, std::size_t columns,
                float* out) noexcept;
};

/// Kernels of one ISA. Arrays are indexed by kv_type. Row bytes need no alignment.
struct attention_kernels {
  /// Writes the row of head_dim values. Equal on every ISA, bit by bit, for finite values; in f16
  /// what is too large becomes the largest half.
  std::array<void (*)(const float* values, std::size_t head_dim, std::byte* row) noexcept,
             num_kv_types>
      encode;
  /// Reads head_dim values. Equal on every ISA.
  std::array<void (*)(const std::byte* row, std::size_t head_dim, float* values) noexcept,
             num_kv_types>
      decode;

  /// scores[g * stride + p - begin] = q[g] . k[p] for positions [begin, end) and num_queries rows
  /// of q, (num_queries, padded_dim). Each row of scores has room for score_slack more. `fetch`
  /// holds one entry for each page that is touched: what to ask for meanwhile.
  std::array<void (*)(const paged_rows& rows, std::size_t begin, std::size_t end, const float* q,
                      std::size_t num_queries, float* scores, std::size_t stride,
                      const row_fetch* fetch) noexcept,
             num_kv_types>
      scores;
  /// s[i] = 2^(s[i] - max s), n values (n > 0) with room for score_slack more; returns their sum
  /// and sets `max`.
  float (*softmax)(float* s, std::size_t n, float& max) noexcept;
  /// out[g] = sum over [begin, end) of weights[g * stride + p - begin] * v[p], (num_queries,
  /// padded_dim); values past head_dim are zero or undefined.
  std::array<void (*)(const paged_rows& rows, std::size_t begin, std::size_t end,
                      const float* weights, std::size_t stride, std::size_t num_queries, float* out,
                      const row_fetch* fetch) noexcept,
             num_kv_types>
      weigh;

  /// out[d * out_stride + r] = in[r * in_stride + d] for 16 rows and `dim` (a multiple of 16)
  /// columns.
  void (*transpose)(const float* in, std::size_t in_stride, std::size_t dim, float* out,
                    std::size_t out_stride) noexcept;
  /// c (num_rows, cols) = a (num_rows, depth) b (depth, cols), or adds it to c; cols is a multiple
  /// of
  /// 32. A row of c depends on the same row of a only, summed in the order of depth.
  void (*multiply)(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
                   std::size_t num_rows, std::size_t depth, std::size_t cols, float* c,
                   std::size_t c_stride, bool add) noexcept;
  /// One step of an online softmax over each of num_rows rows of s, `stride` apart, with n (a
  /// multiple of 16) columns of which [low[r], high[r]) count: s becomes 2^(s - max) there and 0
  /// elsewhere, max[r] and sum[r] are carried on, factors[r] is what accumulations under the old
  /// max are to be multiplied by. A row without columns stays as it is, with weights 0 and
  /// factor 1.
  void (*softmax_rows)(float* s, std::size_t stride, std::size_t num_rows, std::size_t n,
                       const std::uint32_t* low, const std::uint32_t* high, float* max, float* sum,
                       float* factors) noexcept;
  /// x *= factor, n values (a multiple of 16).
  void (*scale)(float* x, std::size_t n, float factor) noexcept;

  /// Null where the ISA has no integer dot products.
  const packed_kernels* packed = nullptr;
};

extern const attention_kernels scalar_attention;
extern const attention_kernels avx2_attention;
extern const attention_kernels avx512_attention;

}  // namespace quire
