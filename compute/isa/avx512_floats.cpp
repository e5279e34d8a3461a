// Products of float weights on AVX-512: rows times panels at once, so that even one row has several
// chains of sums in flight.
#include <cstddef>
#include <cstdint>

#include "compute/isa/float_products.hpp"
#include "compute/packed_format.hpp"

// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#include <immintrin.h>

#define QUIRE_ZMM_TARGET
#include "compute/isa/zmm_weights.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// Loads 16 float weights of element type Element.
template <tensor_type Type>
QUIRE_INLINE __m512 load_weights(const std::byte* at) noexcept {
  if constexpr (Type == tensor_type::f32) {
    return _mm512_load_ps(at);
  } else if constexpr (Type == tensor_type::f16) {
    return load_halves(at);
  } else {
    const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

/// Rows x Panels at once, so that even one row has several chains of sums in flight.
template <tensor_type Type, int Rows, int Panels>
QUIRE_INLINE void multiply_floats(const matmul_task& task, std::size_t panel) noexcept {
  constexpr std::size_t line = panel_outputs * (Type == tensor_type::f32 ? 4 : 2);
  const std::byte* w = task.panels + panel * task.panel_bytes;
  const std::size_t stride = task.x_stride;
  const float* x = task.x_f32;
  __m512 sums[Panels][Rows];
#pragma GCC unroll 4
  for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) sums[p][row] = _mm512_setzero_ps();
  for (std::size_t k = 0; k < task.cols; ++k, w += line) {
    __m512 weights[Panels];
#pragma GCC unroll 4
    for (std::size_t p = 0; p < Panels; ++p) {
      weights[p] = load_weights<Type>(w + p * task.panel_bytes);
      __builtin_prefetch(w + p * task.panel_bytes + 16 * line);
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const __m512 value = _mm512_set1_ps(x[static_cast<std::size_t>(row) * stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p)
        sums[p][row] = _mm512_fmadd_ps(weights[p], value, sums[p][row]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < Panels; ++p)
    store_sums<Rows>(task, panel + static_cast<std::size_t>(p), sums[p]);
}

template <tensor_type Type, int Rows, int Panels>
void float_rows(matmul_task task, std::size_t first_row) noexcept {
  task.x_f32 += first_row * task.x_stride;
  task.out += first_row * task.out_stride;
  task.num_rows = Rows;
  std::size_t panel = 0;
  for (; panel + Panels <= task.num_panels; panel += Panels)
    multiply_floats<Type, Rows, Panels>(task, panel);
  for (; panel < task.num_panels; ++panel) multiply_floats<Type, Rows, 1>(task, panel);
}

template <tensor_type Type>
void float_product(const matmul_task& task) noexcept {
  std::size_t row = 0;
  for (; row + 8 <= task.num_rows; row += 8) float_rows<Type, 8, 2>(task, row);
  for (; row + 4 <= task.num_rows; row += 4) float_rows<Type, 4, 4>(task, row);
  for (; row + 2 <= task.num_rows; row += 2) float_rows<Type, 2, 4>(task, row);
  for (; row < task.num_rows; ++row) float_rows<Type, 1, 4>(task, row);
}

#undef QUIRE_INLINE

}  // namespace

void avx512_f32_product(const matmul_task& task) noexcept {
  float_product<tensor_type::f32>(task);
}
void avx512_f16_product(const matmul_task& task) noexcept {
  float_product<tensor_type::f16>(task);
}
void avx512_bf16_product(const matmul_task& task) noexcept {
  float_product<tensor_type::bf16>(task);
}

}  // namespace quire

#pragma GCC pop_options
