// Matrix products on AVX-VNNI: vpdpbusd on 256-bit registers, for processors without AVX-512.
//
// Codes are multiplied as they are stored. Where a type subtracts an offset from them, the sum
// starts at minus the offset times the sum of the activations, which the group carries times 128.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/float_products.hpp"
#include "compute/isa/prepare.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avxvnni")
#include <immintrin.h>

#define QUIRE_YMM_TARGET
#include "compute/isa/ymm_table.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

struct avx_vnni_dot {
  template <tensor_type Type>
  QUIRE_INLINE static __m256i prepare(__m256i codes) noexcept {
    if constexpr (formula_of(Type).table)
      return _mm256_xor_si256(_mm256_shuffle_epi8(level_table(), codes), _mm256_set1_epi8(-128));
    else
      return codes;
  }

  template <tensor_type Type>
  struct sum {
    static constexpr bool has_start = true;

    QUIRE_INLINE void clear() noexcept { total_ = _mm256_setzero_si256(); }

    /// Starts at -offset * sum of activations, given -128 times that; table levels are stored plus
    /// 128.
    QUIRE_INLINE void begin(__m256i start) noexcept {
      constexpr unsigned offset = formula_of(Type).table ? 128u : formula_of(Type).offset;
      if constexpr (offset != 0)
        total_ = _mm256_srai_epi32(start, 8 - static_cast<int>(std::bit_width(offset)));
    }

    template <int Index>
    QUIRE_INLINE void add(__m256i w, __m256i activations) noexcept {
      total_ = _mm256_dpbusd_avx_epi32(total_, w, activations);
    }

    template <int Count>
    QUIRE_INLINE __m256i total() noexcept {
      return total_;
    }

    __m256i total_;
  };
};

#undef QUIRE_INLINE

}  // namespace

constinit const matmul_kernels avx_vnni_matmul = make_ymm_table<avx_vnni_dot>("vpdpbusd ymm");

}  // namespace quire

#pragma GCC pop_options
