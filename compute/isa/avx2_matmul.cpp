// Matrix products on AVX2 and FMA.
//
// vpmaddubsw adds two products into a saturating 16-bit sum. Codes are used as they are stored, so
// that sums of several quads fit; 8-bit and table codes are multiplied as magnitude times signed
// activation.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/float_products.hpp"
#include "compute/isa/prepare.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

#define QUIRE_YMM_TARGET
#include "compute/isa/ymm_table.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

struct avx2_dot {
  /// Signed weights: |w| <= 128 and |a| <= 127, so a pair of products is at most 32512.
  struct signed_quad {
    __m256i value;
    __m256i magnitude;
  };

  static constexpr bool is_signed(tensor_type type) {
    return formula_of(type).bits == 8 || formula_of(type).table;
  }

  template <tensor_type Type>
  QUIRE_INLINE static auto prepare(__m256i codes) noexcept {
    if constexpr (!is_signed(Type)) {
      return codes;
    } else {
      const __m256i value = formula_of(Type).table
                                ? _mm256_shuffle_epi8(level_table(), codes)
                                : _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
      return signed_quad{value, _mm256_abs_epi8(value)};
    }
  }

  template <tensor_type Type>
  struct sum {
    static constexpr quant_formula formula = formula_of(Type);
    static constexpr bool has_start = !is_signed(Type);
    /// Quads whose 16-bit sums fit: pairs are at most 2 * (2^bits - 1) * 127.
    static constexpr int run = is_signed(Type)     ? 1
                               : formula.bits <= 4 ? 8
                               : formula.bits == 5 ? 4
                                                   : 2;

    QUIRE_INLINE void clear() noexcept { wide = _mm256_setzero_si256(); }

    /// Starts at -offset * sum of activations, given -128 times that.
    QUIRE_INLINE void begin(__m256i start) noexcept {
      constexpr int shift = formula.offset == 4    ? 5
                            : formula.offset == 8  ? 4
                            : formula.offset == 16 ? 3
                                                   : 2;
      wide = _mm256_srai_epi32(start, shift);
    }

    template <int Index>
    QUIRE_INLINE void add(const auto& w, __m256i activations) noexcept {
      __m256i pairs;
      if constexpr (is_signed(Type))
        pairs = _mm256_maddubs_epi16(w.magnitude, _mm256_sign_epi8(activations, w.value));
      else
        pairs = _mm256_maddubs_epi16(w, activations);
      if constexpr (Index % run == 0)
        narrow = pairs;
      else
        narrow = _mm256_add_epi16(narrow, pairs);
      if constexpr (Index % run == run - 1) widen();
    }

    template <int Count>
    QUIRE_INLINE __m256i total() noexcept {
      if constexpr (Count % run != 0) widen();
      return wide;
    }

    QUIRE_INLINE void widen() noexcept {
      wide = _mm256_add_epi32(wide, _mm256_madd_epi16(narrow, _mm256_set1_epi16(1)));
    }

    __m256i narrow;
    __m256i wide;
  };
};

#undef QUIRE_INLINE

}  // namespace

constinit const matmul_kernels avx2_matmul = make_ymm_table<avx2_dot>("vpmaddubsw ymm");

}  // namespace quire

#pragma GCC pop_options
