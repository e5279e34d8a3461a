// Packed weights and int8 activations taken apart by plain loops: for the scalar kernels and for
// AMX over software tiles.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"
#include "core/half.hpp"

namespace quire {

/// The decoded levels and scales of one panel over 32 inputs.
struct decoded_block {
  std::array<std::array<std::int16_t, code_block>, panel_outputs> levels;
  std::array<std::array<float, panel_outputs>, 2> scales;    // per half of the block
  std::array<std::array<float, panel_outputs>, 2> minimums;  // added per half
};

inline void decode(tensor_type type, const std::byte* panel, std::size_t cols, std::size_t first,
                   decoded_block& block) noexcept {
  const quant_formula formula = formula_of(type);
  const std::size_t inputs = scale_inputs_of(type);
  const std::size_t offset = first % inputs;
  quant_block parts;
  for (std::size_t n = 0; n < panel_outputs; ++n) {
    unpack_block(type, panel, cols, n, first - offset, parts);
    for (std::size_t i = 0; i < code_block; ++i) {
      const std::uint8_t code = parts.codes[offset + i];
      block.levels[n][i] =
          formula.table ? iq4_levels[code] : static_cast<std::int16_t>(code - formula.offset);
    }
    for (std::size_t part = 0; part < 2; ++part) {
      float scale = to_float(parts.d);
      float minimum = formula.minimum ? to_float(parts.m) : 0.0f;
      if (formula.scale_values != 0) {
        const std::size_t sub = (offset + 16 * part) / formula.scale_values;
        scale *= static_cast<float>(parts.scales[sub]);
        minimum *= -static_cast<float>(parts.mins[sub]);
      }
      block.scales[part][n] = scale;
      block.minimums[part][n] = minimum;
    }
  }
}

/// One block of one row of the group, as matmul_kernels.hpp lays it out.
struct activation_block {
  std::array<std::int8_t, block_cols> q;
  float scale;
  std::array<float, 2> half_sums;
};

inline activation_block load_block(const std::byte* group, std::size_t num_rows, std::size_t cols,
                                   std::size_t block, std::size_t row) noexcept {
  activation_block x;
  const std::byte* main = group + block * num_rows * main_row_bytes;
  const std::byte* halves =
      group + (cols / block_cols * main_row_bytes + block * half_row_bytes) * num_rows;
  std::memcpy(x.q.data(), main + row * block_cols, block_cols);
  std::memcpy(&x.scale, main + num_rows * block_cols + row * sizeof(float), sizeof(float));
  for (std::size_t part = 0; part < 2; ++part)
    std::memcpy(&x.half_sums[part], halves + (part * num_rows + row) * sizeof(float),
                sizeof(float));
  return x;
}

/// Stores one row of a panel's outputs, or adds it to what is there.
inline void store_outputs(const matmul_task& task, std::size_t row, std::size_t panel,
                          const std::array<float, panel_outputs>& sums) noexcept {
  float* out = task.out + row * task.out_stride + panel * panel_outputs;
  const std::size_t outputs = std::min(panel_outputs, task.num_outputs - panel * panel_outputs);
  for (std::size_t n = 0; n < outputs; ++n) out[n] = task.add ? out[n] + sums[n] : sums[n];
}

/// As matmul_kernels::product; instantiated for every quantized type in scalar_matmul.cpp.
template <tensor_type Type>
void scalar_product(const matmul_task& task) noexcept;

/// As matmul_kernels::product.
void scalar_f32_product(const matmul_task& task) noexcept;
void scalar_f16_product(const matmul_task& task) noexcept;
void scalar_bf16_product(const matmul_task& task) noexcept;

/// As matmul_kernels::quantize and ::normalize.
void scalar_quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                     std::byte* group) noexcept;
void scalar_normalize(const float* x, const float* weight, float epsilon, std::size_t n,
                      float* out) noexcept;

}  // namespace quire
