// One block of 32 int8 activations of a row times 16 outputs, with AVX-512 VNNI: the arithmetic
// that all products of int8 on 512-bit registers share.
//
// Included like zmm_weights.hpp.
#pragma once

#ifdef QUIRE_ZMM_TARGET

#include "compute/isa/zmm_weights.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// Adds the dot products of quads [First, Last) with `Count` rows' activations, 32 bytes apart. The
/// rows take turns: a row's sum is a chain of additions that wait for each other, and a core looks
/// only so far ahead for others.
template <int First, int Last, int Count>
QUIRE_INLINE void dot(__m512i* sums, const weight_block& w, const std::byte* q) noexcept {
  using word [[gnu::may_alias]] = int;
  // As assembly, because g++ 12 makes three instructions of the intrinsic: it loads the broadcast
  // apart and copies the sum from register to register.
#pragma GCC unroll 8
  for (int g = First; g < Last; ++g)
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i)
      asm("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(sums[i])
          : "v"(w.quads[g]), "m"(*reinterpret_cast<const word*>(q + 32 * i + 4 * g)));
}

/// Adds one block of rows [Row, Row + Count) of `Rows`, where a scale holds for all of the block.
template <tensor_type Type, int Rows, int Row, int Count>
QUIRE_INLINE void add_whole(__m512* sums, const weight_block& w, const std::byte* main) noexcept {
  constexpr bool minimum = formula_of(Type).minimum;
  const std::byte* scales = main + 32 * Rows + 4 * Row;
  __m512i products[Count];
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i)
    products[i] = minimum ? _mm512_setzero_si512() : broadcast_int(scales + 8 * Rows + 4 * i);
  dot<0, 8, Count>(products, w, main + 32 * Row);
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) {
    __m512& sum = sums[Row + i];
    const __m512 scale = _mm512_mul_ps(w.scale[0], broadcast_float(scales + 4 * i));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[i]), scale, sum);
    if constexpr (minimum)
      sum = _mm512_fmadd_ps(w.minimum[0], broadcast_float(scales + 4 * Rows + 4 * i), sum);
  }
}

/// The same where each half of the block has a scale.
template <tensor_type Type, int Rows, int Row, int Count>
QUIRE_INLINE void add_halves(__m512* sums, const weight_block& w, const std::byte* main,
                             const std::byte* halves) noexcept {
  constexpr bool minimum = formula_of(Type).minimum;
  const std::byte* scales = main + 32 * Rows + 4 * Row;
  const std::byte* half_sums = halves + 4 * Row;
  const std::byte* half_starts = halves + 8 * Rows + 4 * Row;
  __m512i low[Count], high[Count];
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) {
    low[i] = minimum ? _mm512_setzero_si512() : broadcast_int(half_starts + 4 * i);
    high[i] = minimum ? _mm512_setzero_si512() : broadcast_int(half_starts + 4 * Rows + 4 * i);
  }
  dot<0, 4, Count>(low, w, main + 32 * Row);
  dot<4, 8, Count>(high, w, main + 32 * Row);
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) {
    __m512& sum = sums[Row + i];
    __m512 both = _mm512_mul_ps(_mm512_cvtepi32_ps(low[i]), w.scale[0]);
    both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[i]), w.scale[1], both);
    sum = _mm512_fmadd_ps(both, broadcast_float(scales + 4 * i), sum);
    if constexpr (minimum) {
      sum = _mm512_fmadd_ps(w.minimum[0], broadcast_float(half_sums + 4 * i), sum);
      sum = _mm512_fmadd_ps(w.minimum[1], broadcast_float(half_sums + 4 * Rows + 4 * i), sum);
    }
  }
}

/// Adds one block of rows [Row, Rows): `main` and `halves` are the block's two sections of the
/// group.
template <tensor_type Type, int Rows, int Row = 0>
QUIRE_INLINE void add_rows(__m512* sums, const weight_block& w, const std::byte* main,
                           const std::byte* halves) noexcept {
  if constexpr (Row < Rows) {
    constexpr bool by_halves = formula_of(Type).scale_values == 16;
    // So many that their chains keep the core busy, and not more than there are registers for.
    constexpr int turns = by_halves ? 2 : 3;
    constexpr int count = Rows - Row < turns ? Rows - Row : turns;
    if constexpr (by_halves)
      add_halves<Type, Rows, Row, count>(sums, w, main, halves);
    else
      add_whole<Type, Rows, Row, count>(sums, w, main);
    add_rows<Type, Rows, Row + count>(sums, w, main, halves);
  }
}

#undef QUIRE_INLINE

}  // namespace

}  // namespace quire

#endif
