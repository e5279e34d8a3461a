// The matmul part of the kernel table, and the layouts of prepared activations that it reads.
//
// Activations: rows are taken in groups of up to 16.
// As int8 (q8), a group of R rows holds, for cols / 32 blocks:
//   main section, per block:  int8 q[R][32]; float scale[R]; float sum[R]; int32 start[R]
//   half section, per block:  float sum[2][R]; int32 start[2][R]
// with x ~ scale * q, scale = max|x| / 127, sum = scale * (q_0 + .. + q_31) and
// start = -128 * (q_0 + .. + q_31): the start value of an integer sum over weights stored as
// unsigned w + 128. The half section has the same for the two 16-value halves of a block.
// As bfloat16, a group holds, per 32 columns (the last ones filled up with zeros), [16][32] values:
// an operand tile of AMX. Rows that are missing are zeros.
// Weights: compute/packed_format.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "compute/tensor_type.hpp"

namespace quire {

/// Rows per group of prepared activations.
inline constexpr std::size_t group_rows = 16;
/// Values per quantization block of activations, and columns per block of packed weights.
inline constexpr std::size_t block_cols = 32;

/// Bytes per row and block of the two sections of a group.
inline constexpr std::size_t main_row_bytes = 32 + 3 * 4;
inline constexpr std::size_t half_row_bytes = 4 * 4;

/// Returns the bytes of an int8 group of `rows` rows by `cols` columns.
constexpr std::size_t group_bytes(std::size_t rows, std::size_t cols) noexcept {
  return cols / block_cols * rows * (main_row_bytes + half_row_bytes);
}

/// Bytes of 16 rows by 32 columns of bfloat16, and of 32 inputs by 16 outputs of weights.
inline constexpr std::size_t bf16_tile_bytes = 1024;

/// Returns the bytes of a bfloat16 group by `cols` columns.
constexpr std::size_t bf16_group_bytes(std::size_t cols) noexcept {
  return (cols + block_cols - 1) / block_cols * bf16_tile_bytes;
}

/// One kernel call: activation rows times a run of panels of 16 outputs.
struct matmul_task {
  const std::byte* panels = nullptr;  // first panel; `panel_bytes` apart
  std::size_t panel_bytes = 0;
  std::size_t num_panels = 0;
  std::size_t cols = 0;  // inputs of the matrix
  std::size_t num_outputs =
      0;  // valid outputs of the run, at most 16 per panel; 16 but for the last
  const std::byte* x_q8 = nullptr;  // int8 groups (see above), for quantized weights
  const float* x_f32 = nullptr;     // the rows, `x_stride` apart, for float weights
  std::size_t x_stride = 0;
  const std::byte* x_bf16 = nullptr;  // bfloat16 groups, one after another, for wide products
  std::size_t num_rows = 0;           // 1..16, in long and wide products any number
  float* out = nullptr;               // (num_rows, num_outputs), `out_stride` between rows
  std::size_t out_stride = 0;
  bool add = false;  // add to what `out` holds
};

/// Matrix product kernels and what prepares activations for them. Arrays are indexed by a tensor
/// type's number in the file format.
///
/// `product` and `long_product` compute a row's values in the same way whatever num_rows is: bit
/// for bit. A wide product rounds activations and weights to bfloat16 instead, so that a row's
/// values depend on which of the two is taken; see uses_wide().
struct matmul_kernels {
  using product_function = void (*)(const matmul_task&) noexcept;
  // What multiplies, for people to read: int8 and f32 activations in `product`, wide products.
  std::string_view int8_instruction;
  std::string_view f32_instruction;
  std::string_view wide_instruction;
  /// The product of up to 16 rows for each type; null where there is none.
  std::array<product_function, 32> product{};
  /// The product of any number of rows, for int8 groups one after another, by the same arithmetic
  /// as `product`; null where there is none.
  std::array<product_function, 32> long_product{};
  /// From how many activations (rows times inputs) on the long product is the faster one.
  std::size_t long_values = 0;
  /// The product of many rows, rounded to bfloat16; null where there is none.
  std::array<product_function, 32> wide_product{};
  /// From how many rows on the wide product is the faster one.
  std::array<std::uint16_t, 32> wide_rows{};
  /// Encodes `num_rows` rows (1..16) of `cols` values (a multiple of 32) as one int8 group.
  void (*quantize)(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                   std::byte* group) noexcept = nullptr;
  /// Rounds `num_rows` rows (1..16) of `cols` values (any number) to one bfloat16 group; null where
  /// there are no wide products.
  void (*round_bf16)(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                     std::byte* group) noexcept = nullptr;
  /// out = x / sqrt(mean(x^2) + epsilon) * weight, for one row of n values.
  void (*normalize)(const float* x, const float* weight, float epsilon, std::size_t n,
                    float* out) noexcept = nullptr;

  constexpr void set_product(tensor_type type, product_function few) {
    product[static_cast<std::size_t>(type)] = few;
  }
  constexpr void set_wide_product(tensor_type type, product_function many, std::uint16_t rows) {
    wide_product[static_cast<std::size_t>(type)] = many;
    wide_rows[static_cast<std::size_t>(type)] = rows;
  }
};

/// Calls use(type) for each type whose weights are multiplied with int8 activations, with the type
/// as an integral constant.
template <class Use>
constexpr void for_each_int8_type(Use use) {
  const auto each = [&use]<tensor_type... Types>() {
    (use(std::integral_constant<tensor_type, Types>{}), ...);
  };
  using enum tensor_type;
  each.template
  operator()<q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs>();
}

/// Returns whether a product of `type` with `num_rows` rows is a wide one: when there is one, it is
/// the faster one, and nobody asked for values that do not depend on the number of rows.
constexpr bool uses_wide(const matmul_kernels& kernels, std::size_t type, std::size_t num_rows,
                         bool row_independent) noexcept {
  return !row_independent && kernels.wide_product[type] != nullptr &&
         num_rows >= kernels.wide_rows[type];
}

extern const matmul_kernels scalar_matmul;
extern const matmul_kernels avx2_matmul;
extern const matmul_kernels avx_vnni_matmul;
extern const matmul_kernels avx512_vnni_matmul;
extern const matmul_kernels avx512_bf16_matmul;
extern const matmul_kernels amx_matmul;
extern const matmul_kernels amx_software_matmul;
extern const matmul_kernels amx_plain_matmul;

}  // namespace quire
