// Plain loops over the packed layout: the oracle of the other ISAs, written for clarity.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

namespace quire {

namespace {

/// The decoded levels and scales of one panel over 32 inputs.
struct decoded_block {
  std::array<std::array<std::int16_t, code_block>, panel_outputs> levels;
  std::array<std::array<float, panel_outputs>, 2> scales;    // per half of the block
  std::array<std::array<float, panel_outputs>, 2> minimums;  // added per half
};

void decode(tensor_type type, const std::byte* panel, std::size_t cols, std::size_t first,
            decoded_block& block) noexcept {
  const quant_formula formula = formula_of(type);
  const std::size_t inputs = scale_inputs_of(type);
  const std::size_t offset = first % inputs;
  quant_block parts;
  for (std::size_t n = 0; n < panel_outputs; ++n) {
    unpack_block(type, panel, cols, n, first - offset, parts);
    for (std::size_t i = 0; i < code_block; ++i) {
      const std::uint8_t code = parts.codes[offset + i];
      block.levels[n][i] = formula.table ? iq4_levels[code]
                                         : static_cast<std::int16_t>(code - formula.offset);
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

activation_block load_block(const std::byte* group, std::size_t padded, std::size_t cols,
                            std::size_t block, std::size_t row) noexcept {
  activation_block x;
  const std::byte* main = group + block * padded * main_row_bytes;
  const std::byte* halves =
      group + (cols / block_cols * main_row_bytes + block * half_row_bytes) * padded;
  std::memcpy(x.q.data(), main + row * block_cols, block_cols);
  std::memcpy(&x.scale, main + padded * block_cols + row * sizeof(float), sizeof(float));
  for (std::size_t part = 0; part < 2; ++part)
    std::memcpy(&x.half_sums[part], halves + (part * padded + row) * sizeof(float), sizeof(float));
  return x;
}

void store(const matmul_task& task, std::size_t row, std::size_t panel,
           const std::array<float, panel_outputs>& sums) noexcept {
  float* out = task.out + row * task.out_stride + panel * panel_outputs;
  const std::size_t outputs = std::min(panel_outputs, task.num_outputs - panel * panel_outputs);
  for (std::size_t n = 0; n < outputs; ++n) out[n] = task.add ? out[n] + sums[n] : sums[n];
}

template <tensor_type Type>
void quantized_product(const matmul_task& task) noexcept {
  const std::size_t padded = padded_rows(task.num_rows);
  decoded_block w;
  for (std::size_t p = 0; p < task.num_panels; ++p) {
    std::array<std::array<float, panel_outputs>, group_rows> sums{};
    for (std::size_t k = 0; k < task.cols; k += code_block) {
      decode(Type, task.panels + p * task.panel_bytes, task.cols, k, w);
      for (std::size_t row = 0; row < task.num_rows; ++row) {
        const auto x = load_block(task.x_q8, padded, task.cols, k / code_block, row);
        for (std::size_t n = 0; n < panel_outputs; ++n)
          for (std::size_t part = 0; part < 2; ++part) {
            int dot = 0;
            for (std::size_t i = 16 * part; i < 16 * part + 16; ++i) dot += w.levels[n][i] * x.q[i];
            sums[row][n] += static_cast<float>(dot) * (w.scales[part][n] * x.scale);
            sums[row][n] += w.minimums[part][n] * x.half_sums[part];
          }
      }
    }
    for (std::size_t row = 0; row < task.num_rows; ++row) store(task, row, p, sums[row]);
  }
}

template <class Element>
void float_product(const matmul_task& task) noexcept {
  for (std::size_t p = 0; p < task.num_panels; ++p) {
    std::array<std::array<float, panel_outputs>, group_rows> sums{};
    const std::byte* panel = task.panels + p * task.panel_bytes;
    for (std::size_t k = 0; k < task.cols; ++k)
      for (std::size_t n = 0; n < panel_outputs; ++n) {
        Element element;
        std::memcpy(&element, panel + (k * panel_outputs + n) * sizeof element, sizeof element);
        float w;
        if constexpr (sizeof element == sizeof(float))
          w = element;
        else
          w = to_float(element);
        for (std::size_t row = 0; row < task.num_rows; ++row)
          sums[row][n] += w * task.x_f32[row * task.x_stride + k];
      }
    for (std::size_t row = 0; row < task.num_rows; ++row) store(task, row, p, sums[row]);
  }
}

void quantize_block(const float* x, std::byte* main, std::byte* halves, std::size_t padded,
                    std::size_t row) noexcept {
  float max = 0.0f;
  for (std::size_t i = 0; i < block_cols; ++i) max = std::max(max, std::fabs(x[i]));
  // Below this 127 / max overflows; such a block is as good as zero.
  const float inverse = max > 1e-36f ? 127.0f / max : 0.0f;
  const float scale = max > 1e-36f ? max / 127.0f : 0.0f;
  std::array<std::int8_t, block_cols> q;
  std::array<std::int32_t, 2> sums{};
  for (std::size_t i = 0; i < block_cols; ++i) {
    q[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * inverse));
    sums[i / 16] += q[i];
  }
  const auto put = [row](std::byte* at, auto value) {
    std::memcpy(at + row * sizeof value, &value, sizeof value);
  };
  const auto scaled = [scale](std::int32_t sum) { return scale * static_cast<float>(sum); };
  std::memcpy(main + row * block_cols, q.data(), block_cols);
  put(main + padded * 32, scale);
  put(main + padded * 36, scaled(sums[0] + sums[1]));
  put(main + padded * 40, -128 * (sums[0] + sums[1]));
  put(halves, scaled(sums[0]));
  put(halves + padded * 4, scaled(sums[1]));
  put(halves + padded * 8, -128 * sums[0]);
  put(halves + padded * 12, -128 * sums[1]);
}

void quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
              std::byte* group) noexcept {
  const std::size_t padded = padded_rows(num_rows);
  const std::size_t blocks = cols / block_cols;
  if (padded != num_rows) std::memset(group, 0, group_bytes(padded, cols));
  for (std::size_t row = 0; row < num_rows; ++row)
    for (std::size_t b = 0; b < blocks; ++b)
      quantize_block(x + row * stride + b * block_cols, group + b * padded * main_row_bytes,
                     group + (blocks * main_row_bytes + b * half_row_bytes) * padded, padded, row);
}

void normalize(const float* x, const float* weight, float epsilon, std::size_t n,
               float* out) noexcept {
  float squares = 0.0f;
  for (std::size_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(n) + epsilon);
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

template <tensor_type... Types>
constexpr matmul_kernels make_table() {
  matmul_kernels table;
  ((table.product[static_cast<std::size_t>(Types)] = quantized_product<Types>), ...);
  table.product[static_cast<std::size_t>(tensor_type::f32)] = float_product<float>;
  table.product[static_cast<std::size_t>(tensor_type::f16)] = float_product<half>;
  table.product[static_cast<std::size_t>(tensor_type::bf16)] = float_product<bfloat16>;
  table.quantize = quantize;
  table.normalize = normalize;
  return table;
}

}  // namespace

using enum tensor_type;
constinit const matmul_kernels scalar_matmul =
    make_table<q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs>();

}  // namespace quire
