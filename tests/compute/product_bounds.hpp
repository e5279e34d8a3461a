// Weight matrices with their decoded values, and how far their products may be from what is
// expected. Used by tests and by the fuzz target; needs no test framework.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "compute/dequantize.hpp"
#include "compute/kernel_table.hpp"
#include "compute/kernels.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/ops/matmul.hpp"
#include "compute/packed_format.hpp"
#include "core/check.hpp"
#include "tests/compute/random_blocks.hpp"

namespace quire::test {

inline constexpr float half_max = 65504.0f;

/// Overwrites the halves of a block (scales d and m) with finite values of about `magnitude`.
inline void set_scales(tensor_type type, std::byte* block, splitmix64& random, float magnitude) {
  const auto put = [&](std::size_t at) {
    const half h = to_half(std::clamp(magnitude * random.uniform(), -half_max, half_max));
    std::memcpy(block + at, &h, sizeof h);
  };
  switch (type) {
    using enum tensor_type;
    case q4_0:
    case q5_0:
    case q8_0:
    case iq4_nl:
    case iq4_xs:
      return put(0);
    case q4_1:
    case q5_1:
    case q4_k:
    case q5_k:
      put(0);
      return put(2);
    case q2_k:
      put(80);
      return put(82);
    case q3_k:
      return put(108);
    case q6_k:
      return put(208);
    case f32:
    case f16:
    case bf16:
      return;
  }
}

struct test_matrix {
  tensor_type type = tensor_type::f32;
  std::vector<std::byte> blocks;
  std::vector<float> values;  // (rows, cols), decoded
  std::vector<double>
      magnitudes;  // (rows, cols): |d code| + |m|, the terms that a weight is the sum of
  std::size_t rows = 0;
  std::size_t cols = 0;
};

/// Decodes the blocks of a matrix.
inline void decode_blocks(test_matrix& m) {
  m.values.resize(m.rows * m.cols);
  QUIRE_CHECK(dequantize_row(m.type, m.blocks, m.values).has_value(), "cannot decode the blocks");
  m.magnitudes.resize(m.values.size());
  const quant_formula formula = formula_of(m.type);
  const auto& traits = traits_of(m.type);
  for (std::size_t i = 0; i < m.values.size(); ++i) {
    m.magnitudes[i] = std::fabs(static_cast<double>(m.values[i]));
    if (!formula.minimum) continue;
    quant_block parts;
    split_block(m.type, m.blocks.data() + i / traits.block_values * traits.block_bytes, parts);
    const std::size_t at = i % traits.block_values;
    double minimum = static_cast<double>(to_float(parts.m));
    if (formula.scale_values != 0) minimum *= -parts.mins[at / formula.scale_values];
    m.magnitudes[i] = std::fabs(static_cast<double>(m.values[i]) - minimum) + std::fabs(minimum);
  }
}

/// Tables to test against the scalar one: all others that this machine can run, AMX's kernels over
/// software tiles included.
inline std::vector<const kernel_table*> vector_kernels() {
  std::vector<const kernel_table*> tables;
  for (const auto list : {compiled_kernels(), emulated_kernels()})
    for (const kernel_table* table : list)
      if (table->runnable() && table->name != "scalar") tables.push_back(table);
  return tables;
}

inline const kernel_table* scalar_kernels() {
  return runnable_kernels().back();
}

/// The sum over k of the magnitudes of what is added up for one output. An int8 activation is at
/// most the largest of its block of 32.
inline double sum_of_magnitudes(const test_matrix& m, const float* x, std::size_t row) {
  double sum = 0.0;
  for (std::size_t begin = 0; begin < m.cols; begin += 32) {
    const std::size_t end = std::min(begin + 32, m.cols);
    double most = 0.0;
    for (std::size_t k = begin; k < end; ++k)
      most = std::max(most, std::fabs(static_cast<double>(x[k])));
    for (std::size_t k = begin; k < end; ++k)
      sum += m.magnitudes[row * m.cols + k] *
             (is_float(m.type) ? std::fabs(static_cast<double>(x[k])) : most);
  }
  return sum;
}

/// How far two products of the same operands may differ, in units of the sum of magnitudes: half an
/// epsilon per rounding, on either side. Float weights: one rounding per input. Quantized ones:
/// integer sums are exact (below 2^24); per half block of 16 inputs a scaled sum and a minimum are
/// added, which makes 2 additions per 16 inputs, and each term has been rounded at most 6 times
/// (its sub-scale and the scale of the activations, the activations' sum, the products of these).
inline double rounding(tensor_type type, std::size_t cols) {
  const double additions =
      is_float(type) ? static_cast<double>(cols) : static_cast<double>(cols) / 8.0;
  return (additions + 6.0) * static_cast<double>(std::numeric_limits<float>::epsilon());
}

/// What gets lost where an operand, a scale or a result falls below the smallest normal number,
/// 2^-126: the int8 forms treat activations below 1e-36 as zero, products of bfloat16 treat
/// subnormals as zero.
inline double underflow(const test_matrix& m, const float* x, std::size_t row) {
  double sum = 1e-37;
  for (std::size_t k = 0; k < m.cols; ++k)
    sum += m.magnitudes[row * m.cols + k] * 1e-36 + std::fabs(static_cast<double>(x[k])) * 0x1p-126;
  return sum;
}

inline bool has_wide(const kernel_table& table, tensor_type type) {
  return table.matmul->wide_product[static_cast<std::size_t>(type)] != nullptr;
}

inline std::vector<double> exact_product(const test_matrix& m, const std::vector<float>& x,
                                         std::size_t num_rows) {
  std::vector<double> out(num_rows * m.rows);
  for (std::size_t r = 0; r < num_rows; ++r)
    for (std::size_t n = 0; n < m.rows; ++n)
      for (std::size_t k = 0; k < m.cols; ++k)
        out[r * m.rows + n] +=
            static_cast<double>(m.values[n * m.cols + k]) * static_cast<double>(x[r * m.cols + k]);
  return out;
}

/// The operands' errors, 2^-8 each and their product; a few roundings of the scales before; and the
/// sum.
inline double wide_rounding(std::size_t cols) {
  return 0x1p-7 + 0x1p-16 + 0x1p-20 + rounding(tensor_type::f32, cols);
}

/// Returns what the kernels of `context` make of `num_rows` rows of x.
inline std::vector<float> product(const compute_context& context, const packed_matrix& w,
                                  const std::vector<float>& x, std::size_t num_rows) {
  activations prepared;
  prepared.prepare(context, x.data(), num_rows, w.cols(), w.cols());
  std::vector<float> out(num_rows * w.rows(), std::numeric_limits<float>::quiet_NaN());
  const matmul_target target{&w, out.data(), w.rows(), false};
  matmul(context, prepared, {&target, 1});
  return out;
}

/// An output that is farther from what is expected than its bound.
struct deviation {
  std::size_t row = 0;
  std::size_t output = 0;
  double actual = 0;
  double expected = 0;
  double bound = 0;
};

/// Returns the first output that is not within `relative` times its sum of magnitudes of what is
/// expected.
template <class Expected>
std::optional<deviation> first_deviation(const std::vector<float>& actual,
                                         const std::vector<Expected>& expected,
                                         const test_matrix& m, const std::vector<float>& x,
                                         std::size_t num_rows, double relative) {
  for (std::size_t r = 0; r < num_rows; ++r)
    for (std::size_t n = 0; n < m.rows; ++n) {
      const float* row = x.data() + r * m.cols;
      const double bound = relative * sum_of_magnitudes(m, row, n) + underflow(m, row, n);
      const auto got = static_cast<double>(actual[r * m.rows + n]);
      const auto wanted = static_cast<double>(expected[r * m.rows + n]);
      if (!(std::fabs(got - wanted) <= bound)) return deviation{r, n, got, wanted, bound};
    }
  return std::nullopt;
}

}  // namespace quire::test
