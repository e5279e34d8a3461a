// The matmul part of the kernel table, and the layout of prepared activations that it reads.
//
// Activations: rows are taken in groups of up to 16. A group of n rows is padded to
// `padded_rows(n)` rows of zeros and holds, for cols / 32 blocks, R = padded rows:
//   main section, per block:  int8 q[R][32]; float scale[R]; float sum[R]; int32 start[R]
//   half section, per block:  float sum[2][R]; int32 start[2][R]
// with x ~ scale * q, scale = max|x| / 127, sum = scale * (q_0 + .. + q_31) and
// start = -128 * (q_0 + .. + q_31): the start value of an integer sum over weights stored as
// unsigned w + 128. The half section has the same for the two 16-value halves of a block.
// Weights: compute/packed_format.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace quire {

/// Rows per group of prepared activations.
inline constexpr std::size_t group_rows = 16;
/// Values per quantization block of activations, and columns per block of packed weights.
inline constexpr std::size_t block_cols = 32;

/// Returns the row count that a group of `rows` (1..16) is padded to: the counts kernels exist for.
constexpr std::size_t padded_rows(std::size_t rows) noexcept {
  for (const std::size_t n : {1u, 2u, 3u, 4u, 6u, 8u, 12u})
    if (rows <= n) return n;
  return group_rows;
}

/// Bytes per row and block of the two sections of a group.
inline constexpr std::size_t main_row_bytes = 32 + 3 * 4;
inline constexpr std::size_t half_row_bytes = 4 * 4;

/// Returns the bytes of a group of `padded` rows by `cols` columns.
constexpr std::size_t group_bytes(std::size_t padded, std::size_t cols) noexcept {
  return cols / block_cols * padded * (main_row_bytes + half_row_bytes);
}

/// One kernel call: a group of activation rows times a run of panels of 16 outputs.
struct matmul_task {
  const std::byte* panels = nullptr;  // first panel; `panel_bytes` apart
  std::size_t panel_bytes = 0;
  std::size_t num_panels = 0;
  std::size_t cols = 0;          // inputs of the matrix
  std::size_t num_outputs = 0;   // valid outputs of the run, at most 16 per panel; 16 but for the last
  const std::byte* x_q8 = nullptr;  // the group (see above), for quantized weights
  const float* x_f32 = nullptr;     // the group's rows, `x_stride` apart, for float weights
  std::size_t x_stride = 0;
  std::size_t num_rows = 0;      // 1..16; those of x_q8 are padded to padded_rows(num_rows)
  float* out = nullptr;          // (num_rows, num_outputs), `out_stride` between rows
  std::size_t out_stride = 0;
  bool add = false;              // add to what `out` holds
};

/// Matrix product kernels and what prepares activations for them.
struct matmul_kernels {
  /// The product for each tensor type, by its number in the file format; null where there is none.
  std::array<void (*)(const matmul_task&) noexcept, 32> product{};
  /// Encodes `num_rows` rows (1..16) of `cols` values (a multiple of 32) as one group.
  void (*quantize)(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                   std::byte* group) noexcept = nullptr;
  /// out = x / sqrt(mean(x^2) + epsilon) * weight, for one row of n values.
  void (*normalize)(const float* x, const float* weight, float epsilon, std::size_t n,
                    float* out) noexcept = nullptr;
};

extern const matmul_kernels scalar_matmul;
extern const matmul_kernels avx2_matmul;
extern const matmul_kernels avx_vnni_matmul;
extern const matmul_kernels avx512_vnni_matmul;

}  // namespace quire
