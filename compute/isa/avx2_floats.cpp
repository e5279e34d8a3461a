// Products of float weights on AVX2 and FMA: rows times panels at once, so that at least eight
// chains of sums are in flight. Every sum runs over the inputs in order, whatever the number of
// rows.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/float_products.hpp"
#include "compute/packed_format.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// Loads 8 float weights.
template <tensor_type Type>
QUIRE_INLINE __m256 load_weights(const std::byte* at) noexcept {
  if constexpr (Type == tensor_type::f32) {
    return _mm256_load_ps(reinterpret_cast<const float*>(at));
  } else {
    const __m128i bits = _mm_load_si128(reinterpret_cast<const __m128i*>(at));
    if constexpr (Type == tensor_type::f16)
      return _mm256_cvtph_ps(bits);
    else
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

/// Stores 8 outputs of one row, of which `left` exist.
QUIRE_INLINE void store(float* out, __m256 sum, std::size_t left, bool add) noexcept {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int count = static_cast<int>(std::min<std::size_t>(left, 8));
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
  if (add) sum = _mm256_add_ps(sum, _mm256_maskload_ps(out, mask));
  _mm256_maskstore_ps(out, mask, sum);
}

template <tensor_type Type, int Rows, int Panels>
void multiply(const matmul_task& task, std::size_t panel, std::size_t first_row) noexcept {
  constexpr std::size_t element = Type == tensor_type::f32 ? 4 : 2;
  constexpr int halves = 2 * Panels;
  const std::byte* w = task.panels + panel * task.panel_bytes;
  const float* x = task.x_f32 + first_row * task.x_stride;
  __m256 sums[Rows][halves];
#pragma GCC unroll 6
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int i = 0; i < halves; ++i) sums[row][i] = _mm256_setzero_ps();
  for (std::size_t k = 0; k < task.cols; ++k, w += panel_outputs * element)
#pragma GCC unroll 4
    for (std::size_t p = 0; p < Panels; ++p) {
      const std::byte* at = w + p * task.panel_bytes;
      const __m256 low = load_weights<Type>(at);
      const __m256 high = load_weights<Type>(at + 8 * element);
#pragma GCC unroll 6
      for (std::size_t row = 0; row < Rows; ++row) {
        const __m256 value = _mm256_broadcast_ss(x + row * task.x_stride + k);
        sums[row][2 * p] = _mm256_fmadd_ps(low, value, sums[row][2 * p]);
        sums[row][2 * p + 1] = _mm256_fmadd_ps(high, value, sums[row][2 * p + 1]);
      }
    }
  for (std::size_t row = 0; row < Rows; ++row)
    for (std::size_t i = 0; i < halves; ++i) {
      const std::size_t output = panel * panel_outputs + 8 * i;
      if (output < task.num_outputs)
        store(task.out + (first_row + row) * task.out_stride + output, sums[row][i],
              task.num_outputs - output, task.add);
    }
}

/// Rows [first_row, first_row + Rows) of all panels.
template <tensor_type Type, int Rows, int Panels>
void multiply_rows(const matmul_task& task, std::size_t first_row) noexcept {
  std::size_t panel = 0;
  for (; panel + Panels <= task.num_panels; panel += Panels)
    multiply<Type, Rows, Panels>(task, panel, first_row);
  for (; panel < task.num_panels; ++panel) multiply<Type, Rows, 1>(task, panel, first_row);
}

template <tensor_type Type>
void product(const matmul_task& task) noexcept {
  std::size_t row = 0;
  for (; row + 6 <= task.num_rows; row += 6) multiply_rows<Type, 6, 1>(task, row);
  switch (task.num_rows - row) {
    case 5:
      return multiply_rows<Type, 5, 1>(task, row);
    case 4:
      return multiply_rows<Type, 4, 1>(task, row);
    case 3:
      return multiply_rows<Type, 3, 2>(task, row);
    case 2:
      return multiply_rows<Type, 2, 2>(task, row);
    case 1:
      return multiply_rows<Type, 1, 4>(task, row);
    default:
      return;
  }
}

#undef QUIRE_INLINE

}  // namespace

void avx2_f32_product(const matmul_task& task) noexcept {
  product<tensor_type::f32>(task);
}
void avx2_f16_product(const matmul_task& task) noexcept {
  product<tensor_type::f16>(task);
}
void avx2_bf16_product(const matmul_task& task) noexcept {
  product<tensor_type::bf16>(task);
}

}  // namespace quire

#pragma GCC pop_options
