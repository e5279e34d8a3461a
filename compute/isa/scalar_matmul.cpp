// Plain loops over the packed layout: the oracle of the other ISAs, written for clarity.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "compute/isa/plain_weights.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

namespace quire {

namespace {

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
    for (std::size_t row = 0; row < task.num_rows; ++row) store_outputs(task, row, p, sums[row]);
  }
}

void quantize_block(const float* x, std::byte* main, std::byte* halves, std::size_t num_rows,
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
  put(main + num_rows * 32, scale);
  put(main + num_rows * 36, scaled(sums[0] + sums[1]));
  put(main + num_rows * 40, -128 * (sums[0] + sums[1]));
  put(halves, scaled(sums[0]));
  put(halves + num_rows * 4, scaled(sums[1]));
  put(halves + num_rows * 8, -128 * sums[0]);
  put(halves + num_rows * 12, -128 * sums[1]);
}

}  // namespace

template <tensor_type Type>
void scalar_product(const matmul_task& task) noexcept {
  decoded_block w;
  for (std::size_t p = 0; p < task.num_panels; ++p) {
    std::array<std::array<float, panel_outputs>, group_rows> sums{};
    for (std::size_t k = 0; k < task.cols; k += code_block) {
      decode(Type, task.panels + p * task.panel_bytes, task.cols, k, w);
      for (std::size_t row = 0; row < task.num_rows; ++row) {
        const auto x = load_block(task.x_q8, task.num_rows, task.cols, k / code_block, row);
        for (std::size_t n = 0; n < panel_outputs; ++n)
          for (std::size_t part = 0; part < 2; ++part) {
            int dot = 0;
            for (std::size_t i = 16 * part; i < 16 * part + 16; ++i) dot += w.levels[n][i] * x.q[i];
            sums[row][n] += static_cast<float>(dot) * (w.scales[part][n] * x.scale);
            sums[row][n] += w.minimums[part][n] * x.half_sums[part];
          }
      }
    }
    for (std::size_t row = 0; row < task.num_rows; ++row) store_outputs(task, row, p, sums[row]);
  }
}

void scalar_f32_product(const matmul_task& task) noexcept {
  float_product<float>(task);
}
void scalar_f16_product(const matmul_task& task) noexcept {
  float_product<half>(task);
}
void scalar_bf16_product(const matmul_task& task) noexcept {
  float_product<bfloat16>(task);
}

void scalar_quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                     std::byte* group) noexcept {
  const std::size_t blocks = cols / block_cols;
  for (std::size_t row = 0; row < num_rows; ++row)
    for (std::size_t b = 0; b < blocks; ++b)
      quantize_block(x + row * stride + b * block_cols, group + b * num_rows * main_row_bytes,
                     group + (blocks * main_row_bytes + b * half_row_bytes) * num_rows, num_rows,
                     row);
}

void scalar_normalize(const float* x, const float* weight, float epsilon, std::size_t n,
                      float* out) noexcept {
  float squares = 0.0f;
  for (std::size_t i = 0; i < n; ++i) squares += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(n) + epsilon);
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

namespace {

constexpr matmul_kernels make_table() {
  matmul_kernels table;
  table.int8_instruction = "plain C++";
  table.f32_instruction = "plain C++";
  for_each_int8_type([&](auto type) { table.set_product(type, scalar_product<type>); });
  table.set_product(tensor_type::f32, scalar_f32_product);
  table.set_product(tensor_type::f16, scalar_f16_product);
  table.set_product(tensor_type::bf16, scalar_bf16_product);
  table.quantize = scalar_quantize;
  table.normalize = scalar_normalize;
  return table;
}

}  // namespace

using enum tensor_type;
template void scalar_product<q4_0>(const matmul_task&) noexcept;
template void scalar_product<q4_1>(const matmul_task&) noexcept;
template void scalar_product<q5_0>(const matmul_task&) noexcept;
template void scalar_product<q5_1>(const matmul_task&) noexcept;
template void scalar_product<q8_0>(const matmul_task&) noexcept;
template void scalar_product<q2_k>(const matmul_task&) noexcept;
template void scalar_product<q3_k>(const matmul_task&) noexcept;
template void scalar_product<q4_k>(const matmul_task&) noexcept;
template void scalar_product<q5_k>(const matmul_task&) noexcept;
template void scalar_product<q6_k>(const matmul_task&) noexcept;
template void scalar_product<iq4_nl>(const matmul_task&) noexcept;
template void scalar_product<iq4_xs>(const matmul_task&) noexcept;

constinit const matmul_kernels scalar_matmul = make_table();

}  // namespace quire
