// Packed weights on 512-bit registers: 16 outputs x 32 inputs unpacked to bytes and scales.
//
// Included by translation units under a target pragma of AVX-512, after <immintrin.h> and with
// QUIRE_ZMM_TARGET defined (__AVX512F__ does not exist in a pass that only preprocesses, as
// ccache's).
#pragma once

#ifdef QUIRE_ZMM_TARGET

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

QUIRE_INLINE __m512i broadcast_int(const std::byte* at) noexcept {
  int value;
  std::memcpy(&value, at, sizeof value);
  return _mm512_set1_epi32(value);
}

QUIRE_INLINE __m512 broadcast_float(const std::byte* at) noexcept {
  float value;
  std::memcpy(&value, at, sizeof value);
  return _mm512_set1_ps(value);
}

QUIRE_INLINE __m512i load_line(const std::byte* at) noexcept {
  return _mm512_load_si512(at);
}

QUIRE_INLINE __m512 load_halves(const std::byte* at) noexcept {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
}

QUIRE_INLINE __m128i load_bytes(const std::byte* at) noexcept {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(at));
}

QUIRE_INLINE __m512 signed_bytes(const std::byte* at) noexcept {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(at)));
}

QUIRE_INLINE __m512 unsigned_bytes(__m128i bytes) noexcept {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

/// 16 outputs x 32 inputs, ready for the dot products.
struct weight_block {
  __m512i quads[8];   // unsigned; plus 128 - offset where the type has no minima
  __m512 scale[2];    // per half of the block where the type has a scale per 16, else [0]
  __m512 minimum[2];  // to be added, times the sum of the activations
};

template <int Shift>
QUIRE_INLINE __m512i shift_right(__m512i v) noexcept {
  if constexpr (Shift > 0)
    return _mm512_srli_epi16(v, Shift);
  else if constexpr (Shift < 0)
    return _mm512_slli_epi16(v, -Shift);
  else
    return v;
}

/// Returns low | (bits & mask).
QUIRE_INLINE __m512i or_masked(__m512i low, __m512i bits, __m512i mask) noexcept {
  return _mm512_ternarylogic_epi32(low, bits, mask, 0xf8);
}

/// Unpacks the codes of quad Quad.
template <unsigned Bits, int Quad>
QUIRE_INLINE __m512i quad_codes(const std::byte* codes) noexcept {
  if constexpr (Bits == 8) {
    return load_line(codes + Quad * 64);
  } else if constexpr (Bits >= 4) {
    const __m512i line = load_line(codes + Quad % 4 * 64);
    const __m512i low = _mm512_and_si512(shift_right<Quad / 4 * 4>(line), _mm512_set1_epi8(15));
    if constexpr (Bits == 5)
      return or_masked(low, shift_right<Quad - 4>(load_line(codes + 256)), _mm512_set1_epi8(0x10));
    else if constexpr (Bits == 6)
      return or_masked(low, shift_right<2 * (Quad % 4) - 4>(load_line(codes + 256 + Quad / 4 * 64)),
                       _mm512_set1_epi8(0x30));
    else
      return low;
  } else {
    const __m512i line = load_line(codes + Quad / 4 * 64);
    const __m512i low = _mm512_and_si512(shift_right<2 * (Quad % 4)>(line), _mm512_set1_epi8(3));
    if constexpr (Bits == 3)
      return or_masked(low, shift_right<Quad - 2>(load_line(codes + 128)), _mm512_set1_epi8(4));
    else
      return low;
  }
}

template <tensor_type Type, int Quad>
QUIRE_INLINE __m512i unpack_quad(const std::byte* codes) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  const __m512i code = quad_codes<formula.bits, Quad>(codes);
  if constexpr (formula.table) {
    const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(iq4_levels.data()));
    const __m512i biased = _mm512_xor_si512(_mm512_broadcast_i32x4(levels), _mm512_set1_epi8(-128));
    return _mm512_shuffle_epi8(biased, code);
  } else if constexpr (formula.minimum || formula.bits == 8) {
    return code;
  } else {
    return _mm512_add_epi8(code, _mm512_set1_epi8(static_cast<char>(128 - formula.offset)));
  }
}

/// Where the sections of a panel have got to.
struct panel_cursor {
  const std::byte* scales;
  const std::byte* subs;
  const std::byte* codes;
};

template <tensor_type Type>
QUIRE_INLINE void unpack_scales(const panel_cursor& at, weight_block& w) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  const __m512 d = load_halves(at.scales);
  if constexpr (formula.scale_values == 0) {
    w.scale[0] = d;
    if constexpr (formula.minimum) w.minimum[0] = load_halves(at.scales + 32);
  } else if constexpr (!formula.minimum) {
    w.scale[0] = _mm512_mul_ps(d, signed_bytes(at.subs));
    if constexpr (formula.scale_values == 16)
      w.scale[1] = _mm512_mul_ps(d, signed_bytes(at.subs + 16));
  } else {
    const __m512 m = _mm512_sub_ps(_mm512_setzero_ps(), load_halves(at.scales + 32));
    if constexpr (formula.scale_values == 32) {
      w.scale[0] = _mm512_mul_ps(d, unsigned_bytes(load_bytes(at.subs)));
      w.minimum[0] = _mm512_mul_ps(m, unsigned_bytes(load_bytes(at.subs + 16)));
    } else {
      for (int part = 0; part < 2; ++part) {
        const __m128i bytes = load_bytes(at.subs + 16 * part);
        const __m128i mask = _mm_set1_epi8(15);
        w.scale[part] = _mm512_mul_ps(d, unsigned_bytes(_mm_and_si128(bytes, mask)));
        w.minimum[part] =
            _mm512_mul_ps(m, unsigned_bytes(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask)));
      }
    }
  }
}

template <tensor_type Type>
QUIRE_INLINE void unpack(const panel_cursor& at, weight_block& w) noexcept {
  w.quads[0] = unpack_quad<Type, 0>(at.codes);
  w.quads[1] = unpack_quad<Type, 1>(at.codes);
  w.quads[2] = unpack_quad<Type, 2>(at.codes);
  w.quads[3] = unpack_quad<Type, 3>(at.codes);
  w.quads[4] = unpack_quad<Type, 4>(at.codes);
  w.quads[5] = unpack_quad<Type, 5>(at.codes);
  w.quads[6] = unpack_quad<Type, 6>(at.codes);
  w.quads[7] = unpack_quad<Type, 7>(at.codes);
  unpack_scales<Type>(at, w);
}

/// Asks for the same block of the next panel: the hardware's prefetcher alone does not keep memory
/// busy while a panel is multiplied.
template <tensor_type Type>
QUIRE_INLINE void prefetch(const panel_cursor& at, std::size_t panel_bytes) noexcept {
  constexpr auto stride = static_cast<int>(code_stride_of(Type));
#pragma GCC unroll 8
  for (int i = 0; i < stride; i += 64) __builtin_prefetch(at.codes + panel_bytes + i);
  __builtin_prefetch(at.scales + panel_bytes);
  if constexpr (sub_stride_of(Type) != 0) __builtin_prefetch(at.subs + panel_bytes);
}

template <int Rows>
QUIRE_INLINE void store_sums(const matmul_task& task, std::size_t panel,
                             const __m512 (&sums)[Rows]) noexcept {
  const std::size_t outputs = std::min(panel_outputs, task.num_outputs - panel * panel_outputs);
  const auto mask = static_cast<__mmask16>((1u << outputs) - 1u);
  float* out = task.out + panel * panel_outputs;
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row) {
    if (static_cast<std::size_t>(row) == task.num_rows) break;
    __m512 sum = sums[row];
    if (task.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, out));
    _mm512_mask_storeu_ps(out, mask, sum);
    out += task.out_stride;
  }
}

#undef QUIRE_INLINE

}  // namespace

}  // namespace quire

#endif
