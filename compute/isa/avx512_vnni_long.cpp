// Products of many rows of int8 activations on AVX-512 VNNI: blocked for the caches.
//
// A slice of the inputs of a panel is used for up to 8 groups of 16 rows, whose part of that slice
// stays in the second-level cache for a run of panels; the sums wait meanwhile. Each output is the
// same sequence of operations as in avx512_vnni_matmul.cpp, so the results are the same, bit for
// bit.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/vnni_products.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#include <immintrin.h>

#define QUIRE_ZMM_TARGET
#include "compute/isa/zmm_int8.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// Blocks of 32 inputs per slice: those of a group of rows take 24 KiB.
constexpr std::size_t slice_blocks = 32;
/// Groups of rows whose slice is used for a run of panels, and panels of a run.
constexpr std::size_t run_groups = 8;
constexpr std::size_t run_panels = 16;
constexpr std::size_t run_rows = run_groups * group_rows;

/// Returns where block `block` of a panel lies.
template <tensor_type Type>
QUIRE_INLINE panel_cursor cursor_at(const std::byte* panel, std::size_t cols,
                                    std::size_t block) noexcept {
  const panel_layout layout = panel_layout_of(Type, cols);
  return {panel + block / (scale_inputs_of(Type) / code_block) * scale_stride_of(Type),
          panel + layout.subs_at + block * sub_stride_of(Type),
          panel + layout.codes_at + block * code_stride_of(Type)};
}

/// Adds `blocks` blocks of a whole group to its sums, f32 (16 rows, 16 outputs), which begin at
/// zero if `begin`.
template <tensor_type Type>
void multiply_slice(panel_cursor at, std::size_t panel_bytes, std::size_t blocks,
                    const std::byte* main, const std::byte* halves, bool begin,
                    float* waiting) noexcept {
  constexpr int rows = group_rows;
  constexpr std::size_t scale_blocks = scale_inputs_of(Type) / code_block;
  __m512 sums[rows];
#pragma GCC unroll 16
  for (int row = 0; row < rows; ++row)
    sums[row] = begin ? _mm512_setzero_ps() : _mm512_load_ps(waiting + 16 * row);
  for (std::size_t b = 0; b < blocks; ++b) {
    prefetch<Type>(at, panel_bytes);
    weight_block w;
    unpack<Type>(at, w);
    add_rows<Type, rows>(sums, w, main, halves);
    at.codes += code_stride_of(Type);
    at.subs += sub_stride_of(Type);
    if (scale_blocks == 1 || b % scale_blocks == scale_blocks - 1)
      at.scales += scale_stride_of(Type);
    main += group_rows * main_row_bytes;
    halves += group_rows * half_row_bytes;
  }
#pragma GCC unroll 16
  for (int row = 0; row < rows; ++row) _mm512_store_ps(waiting + 16 * row, sums[row]);
}

/// Stores the sums, f32 (num_groups * 16, 16), of rows from `first_row` on of a panel.
QUIRE_INLINE void store_panel(const matmul_task& task, std::size_t panel, std::size_t first_row,
                              std::size_t num_groups, const float* sums) noexcept {
  const std::size_t outputs = std::min(panel_outputs, task.num_outputs - panel * panel_outputs);
  const auto mask = static_cast<__mmask16>((1u << outputs) - 1u);
  float* out = task.out + first_row * task.out_stride + panel * panel_outputs;
  for (std::size_t row = 0; row < num_groups * group_rows; ++row, out += task.out_stride) {
    __m512 sum = _mm512_load_ps(sums + 16 * row);
    if (task.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, out));
    _mm512_mask_storeu_ps(out, mask, sum);
  }
}

/// Whole groups of rows from `first_row` on times panels [first, first + panels): at most 8 by 16.
template <tensor_type Type>
void multiply_run(const matmul_task& task, std::size_t first_row, std::size_t num_groups,
                  std::size_t first, std::size_t panels) noexcept {
  constexpr std::size_t panel_stride = run_rows * panel_outputs;
  alignas(64) float sums[run_panels * panel_stride];
  const std::size_t num_blocks = task.cols / code_block;
  const std::size_t x_stride = group_bytes(group_rows, task.cols);
  const std::byte* x = task.x_q8 + first_row / group_rows * x_stride;
  for (std::size_t block = 0; block < num_blocks; block += slice_blocks) {
    const std::size_t blocks = std::min(slice_blocks, num_blocks - block);
    const std::size_t main_at = block * group_rows * main_row_bytes;
    const std::size_t halves_at =
        group_rows * (num_blocks * main_row_bytes + block * half_row_bytes);
    for (std::size_t p = 0; p < panels; ++p) {
      const panel_cursor at =
          cursor_at<Type>(task.panels + (first + p) * task.panel_bytes, task.cols, block);
      for (std::size_t group = 0; group < num_groups; ++group)
        multiply_slice<Type>(at, task.panel_bytes, blocks, x + group * x_stride + main_at,
                             x + group * x_stride + halves_at, block == 0,
                             sums + p * panel_stride + group * group_rows * panel_outputs);
    }
  }
  for (std::size_t p = 0; p < panels; ++p)
    store_panel(task, first + p, first_row, num_groups, sums + p * panel_stride);
}

#undef QUIRE_INLINE

}  // namespace

template <tensor_type Type>
void avx512_vnni_long_product(const matmul_task& task) noexcept {
  const std::size_t whole = task.num_rows / group_rows;
  for (std::size_t group = 0; group < whole; group += run_groups)
    for (std::size_t panel = 0; panel < task.num_panels; panel += run_panels)
      multiply_run<Type>(task, group * group_rows, std::min(run_groups, whole - group), panel,
                         std::min(run_panels, task.num_panels - panel));
  if (task.num_rows % group_rows == 0) return;
  matmul_task rest = task;
  rest.num_rows = task.num_rows % group_rows;
  rest.x_q8 += whole * group_bytes(group_rows, task.cols);
  rest.out += whole * group_rows * task.out_stride;
  avx512_vnni_product<Type>(rest);
}

using enum tensor_type;
template void avx512_vnni_long_product<q4_0>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q4_1>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q5_0>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q5_1>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q8_0>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q2_k>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q3_k>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q4_k>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q5_k>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<q6_k>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<iq4_nl>(const matmul_task&) noexcept;
template void avx512_vnni_long_product<iq4_xs>(const matmul_task&) noexcept;

}  // namespace quire

#pragma GCC pop_options
