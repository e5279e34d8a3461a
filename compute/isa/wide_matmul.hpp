// The frame of wide products: many rows of bfloat16 activations times weights of any type.
//
// Two panels (32 outputs) at a time, a slice of the inputs is dequantized once to bfloat16 operands
// that stay in the first-level cache, and is then used for all rows. Sums wait in the output
// between slices. `Weights::unpack` dequantizes, `Core::multiply` multiplies; a translation unit
// per ISA brings both and includes this under its target pragma.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

namespace quire {

namespace {

/// 16 rows by 16 outputs of the result.
struct output_tile {
  float* at = nullptr;
  std::size_t stride = 0;
  std::size_t rows = 0;     // 1..16
  std::size_t outputs = 0;  // 1..16
  bool begin = false;       // the sum begins at zero instead of at what the output holds
};

/// Blocks of 32 inputs per slice: two panels of 16 blocks take 32 KiB.
constexpr std::size_t slice_blocks = 16;

/// Multiplies G groups with P panels: `x[g]` and `w[p]` are `blocks` consecutive tiles of 1 KiB.
template <class Core, int Groups, int Panels>
void multiply_tiles(const matmul_task& task, std::size_t row, std::size_t output,
                    std::size_t first_block, std::size_t blocks,
                    const std::byte* operands) noexcept {
  const std::byte* x[Groups];
  const std::byte* w[Panels];
  output_tile out[Groups][Panels];
  for (std::size_t g = 0; g < Groups; ++g) {
    const std::size_t first_row = row + g * group_rows;
    x[g] = task.x_bf16 + first_row / group_rows * bf16_group_bytes(task.cols) +
           first_block * bf16_tile_bytes;
    for (std::size_t p = 0; p < Panels; ++p) {
      const std::size_t first = output + p * panel_outputs;
      out[g][p] = {task.out + first_row * task.out_stride + first, task.out_stride,
                   std::min(group_rows, task.num_rows - first_row),
                   std::min(panel_outputs, task.num_outputs - first),
                   first_block == 0 && !task.add};
    }
  }
  for (std::size_t p = 0; p < Panels; ++p) w[p] = operands + p * slice_blocks * bf16_tile_bytes;
  Core::template multiply<Groups, Panels>(x, w, blocks, out);
}

template <class Core, class Weights, int Panels>
void multiply_wide_panels(const matmul_task& task, std::size_t panel) noexcept {
  alignas(64) std::byte operands[Panels * slice_blocks * bf16_tile_bytes];
  const std::size_t num_blocks = (task.cols + code_block - 1) / code_block;
  for (std::size_t first = 0; first < num_blocks; first += slice_blocks) {
    const std::size_t blocks = std::min(slice_blocks, num_blocks - first);
    for (std::size_t p = 0; p < Panels; ++p)
      // The panels after these are asked for meanwhile: computing would hide the wait for memory.
      Weights::unpack(task.panels + (panel + p) * task.panel_bytes, task.cols, first, blocks,
                      Panels * task.panel_bytes, operands + p * slice_blocks * bf16_tile_bytes);
    const std::size_t output = panel * panel_outputs;
    std::size_t row = 0;
    for (; row + group_rows < task.num_rows; row += 2 * group_rows)
      multiply_tiles<Core, 2, Panels>(task, row, output, first, blocks, operands);
    if (row < task.num_rows)
      multiply_tiles<Core, 1, Panels>(task, row, output, first, blocks, operands);
  }
}

/// As matmul_kernels::wide_product.
template <class Core, class Weights>
void wide_product(const matmul_task& task) noexcept {
  Core::begin();
  std::size_t panel = 0;
  for (; panel + 2 <= task.num_panels; panel += 2)
    multiply_wide_panels<Core, Weights, 2>(task, panel);
  if (panel < task.num_panels) multiply_wide_panels<Core, Weights, 1>(task, panel);
}

}  // namespace

}  // namespace quire
