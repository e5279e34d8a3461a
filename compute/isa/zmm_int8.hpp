// One block of 32 int8 activations of a row times 16 outputs, with AVX-512 VNNI: the arithmetic that all
// products of int8 on 512-bit registers share.
//
// Included like zmm_weights.hpp.
#pragma once

#ifdef QUIRE_ZMM_TARGET

#include "compute/isa/zmm_weights.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// Adds the dot products of quads [First, Last) with one row's 32 activations.
template <int First, int Last>
QUIRE_INLINE __m512i dot(__m512i sum, const weight_block& w, const std::byte* q) noexcept {
  using word [[gnu::may_alias]] = int;
  // As assembly, because g++ 12 makes three instructions of the intrinsic: it loads the broadcast apart and
  // copies the sum from register to register.
#pragma GCC unroll 8
  for (int g = First; g < Last; ++g)
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(sum)
        : "v"(w.quads[g]), "m"(*reinterpret_cast<const word*>(q + 4 * g)));
  return sum;
}

/// Adds one block of one row: `main` and `halves` are the block's two sections of the group.
template <tensor_type Type, int Rows>
QUIRE_INLINE __m512 add_row(__m512 sum, const weight_block& w, const std::byte* main,
                            const std::byte* halves, int row) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  const std::byte* q = main + 32 * row;
  const std::byte* scales = main + 32 * Rows + 4 * row;
  if constexpr (formula.scale_values == 16) {
    const std::byte* half_sums = halves + 4 * row;
    const std::byte* half_starts = halves + 8 * Rows + 4 * row;
    __m512i low = formula.minimum ? _mm512_setzero_si512() : broadcast_int(half_starts);
    __m512i high = formula.minimum ? _mm512_setzero_si512() : broadcast_int(half_starts + 4 * Rows);
    low = dot<0, 4>(low, w, q);
    high = dot<4, 8>(high, w, q);
    __m512 both = _mm512_mul_ps(_mm512_cvtepi32_ps(low), w.scale[0]);
    both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), w.scale[1], both);
    sum = _mm512_fmadd_ps(both, broadcast_float(scales), sum);
    if constexpr (formula.minimum) {
      sum = _mm512_fmadd_ps(w.minimum[0], broadcast_float(half_sums), sum);
      sum = _mm512_fmadd_ps(w.minimum[1], broadcast_float(half_sums + 4 * Rows), sum);
    }
  } else {
    __m512i products = formula.minimum ? _mm512_setzero_si512() : broadcast_int(scales + 8 * Rows);
    products = dot<0, 8>(products, w, q);
    const __m512 scale = _mm512_mul_ps(w.scale[0], broadcast_float(scales));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum);
    if constexpr (formula.minimum)
      sum = _mm512_fmadd_ps(w.minimum[0], broadcast_float(scales + 4 * Rows), sum);
  }
  return sum;
}

#undef QUIRE_INLINE

}  // namespace

}  // namespace quire

#endif
