// Packed weights and activations as bfloat16 operands, on AVX-512 with BF16. An operand tile holds
// 32 inputs x 16 outputs as 16 lines, in which 32-bit word n is inputs 2 p and 2 p + 1 of output n.
//
// Included like zmm_weights.hpp.
#pragma once

#ifdef QUIRE_ZMM_TARGET

#include "compute/isa/zmm_weights.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// Rounds 16 pairs (even, odd) to bfloat16, each pair in one 32-bit word.
QUIRE_INLINE __m512i round_pairs(__m512 even, __m512 odd) noexcept {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  return _mm512_permutexvar_epi16(order, halves);
}

/// Dequantizes quad Quad of an unpacked block: two lines of the operand.
template <tensor_type Type, int Quad>
QUIRE_INLINE void dequantize_quad(const weight_block& w, std::byte* operand) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  constexpr int part = formula.scale_values == 16 ? Quad / 4 : 0;
  const __m512 scale = w.scale[part];
  // Without minima the bytes are levels plus 128.
  const __m512 start =
      formula.minimum ? w.minimum[part] : _mm512_mul_ps(scale, _mm512_set1_ps(-128));
  const __m512i bytes = w.quads[Quad];
  const __m512i mask = _mm512_set1_epi32(255);
  const auto value = [&](__m512i code) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), scale, start);
  };
  const __m512 a = value(_mm512_and_si512(bytes, mask));
  const __m512 b = value(_mm512_and_si512(_mm512_srli_epi32(bytes, 8), mask));
  const __m512 c = value(_mm512_and_si512(_mm512_srli_epi32(bytes, 16), mask));
  const __m512 d = value(_mm512_srli_epi32(bytes, 24));
  _mm512_store_si512(operand + 128 * Quad, round_pairs(a, b));
  _mm512_store_si512(operand + 128 * Quad + 64, round_pairs(c, d));
}

template <tensor_type Type>
QUIRE_INLINE void dequantize(const panel_cursor& at, std::byte* operand) noexcept {
  weight_block w;
  unpack<Type>(at, w);
  dequantize_quad<Type, 0>(w, operand);
  dequantize_quad<Type, 1>(w, operand);
  dequantize_quad<Type, 2>(w, operand);
  dequantize_quad<Type, 3>(w, operand);
  dequantize_quad<Type, 4>(w, operand);
  dequantize_quad<Type, 5>(w, operand);
  dequantize_quad<Type, 6>(w, operand);
  dequantize_quad<Type, 7>(w, operand);
}

/// The operand lines of 16-bit floats: `inputs` (1..32) lines of 16 weights, the rest zeros.
template <tensor_type Type>
QUIRE_INLINE void pair_floats(const std::byte* lines, std::size_t inputs,
                              std::byte* operand) noexcept {
  const auto load = [&](std::size_t k) {
    return k < inputs ? _mm256_load_si256(reinterpret_cast<const __m256i*>(lines + 32 * k))
                      : _mm256_setzero_si256();
  };
  for (std::size_t k = 0; k < code_block; k += 2) {
    __m512i pairs;
    if constexpr (Type == tensor_type::bf16)
      pairs = _mm512_or_si512(_mm512_cvtepu16_epi32(load(k)),
                              _mm512_slli_epi32(_mm512_cvtepu16_epi32(load(k + 1)), 16));
    else
      pairs = round_pairs(_mm512_cvtph_ps(load(k)), _mm512_cvtph_ps(load(k + 1)));
    _mm512_store_si512(operand + 32 * k, pairs);
  }
}

/// The `Weights` of wide_matmul.hpp.
template <tensor_type Type>
struct zmm_bf16_weights {
  /// Dequantizes blocks [first, first + blocks) of a panel to consecutive operand tiles, and asks
  /// for the weights `ahead` bytes further on. g++ 12 drops the call for Q2_K as a dead store if it
  /// may look inside.
  [[gnu::noipa]] static void unpack(const std::byte* panel, std::size_t cols, std::size_t first,
                                    std::size_t blocks, std::size_t ahead,
                                    std::byte* operands) noexcept {
    if constexpr (is_float(Type)) {
      for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t k = (first + b) * code_block;
#pragma GCC unroll 16
        for (std::size_t line = 0; line < code_block * 32; line += 64)
          __builtin_prefetch(panel + ahead + 32 * k + line, 0, 2);
        pair_floats<Type>(panel + 32 * k, std::min(cols - k, code_block),
                          operands + b * bf16_tile_bytes);
      }
    } else {
      constexpr std::size_t scale_blocks = scale_inputs_of(Type) / code_block;
      const panel_layout layout = panel_layout_of(Type, cols);
      for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t block = first + b;
        const panel_cursor at{panel + block / scale_blocks * scale_stride_of(Type),
                              panel + layout.subs_at + block * sub_stride_of(Type),
                              panel + layout.codes_at + block * code_stride_of(Type)};
        prefetch<Type>(at, ahead);
        dequantize<Type>(at, operands + b * bf16_tile_bytes);
      }
    }
  }
};

#undef QUIRE_INLINE

}  // namespace

}  // namespace quire

#endif
