// Encodes activations on AVX-512 (with VNNI for the sums), and RMSNorm of a row.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/prepare.hpp"
#include "compute/matmul_kernels.hpp"

// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#include <immintrin.h>

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

// Below this 127 / max overflows; a block with no larger value is as good as zero.
constexpr float smallest_max = 1e-36f;

void quantize_block(const float* x, std::byte* main, std::byte* halves, std::size_t num_rows,
                    std::size_t row) noexcept {
  const __m512 low = _mm512_loadu_ps(x);
  const __m512 high = _mm512_loadu_ps(x + 16);
  const float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
  const float inverse = max > smallest_max ? 127.0f / max : 0.0f;
  const float scale = max > smallest_max ? max / 127.0f : 0.0f;
  const __m512i q_low = _mm512_cvtps_epi32(_mm512_mul_ps(low, _mm512_set1_ps(inverse)));
  const __m512i q_high = _mm512_cvtps_epi32(_mm512_mul_ps(high, _mm512_set1_ps(inverse)));
  // What is no number converts to the smallest integer and is stored as -128; the sums are of what
  // is stored.
  const __m512i least = _mm512_set1_epi32(-128);
  const int sum_low = _mm512_reduce_add_epi32(_mm512_max_epi32(q_low, least));
  const int sum_high = _mm512_reduce_add_epi32(_mm512_max_epi32(q_high, least));
  auto* q = reinterpret_cast<__m128i*>(main + row * block_cols);
  _mm_storeu_si128(q, _mm512_cvtsepi32_epi8(q_low));
  _mm_storeu_si128(q + 1, _mm512_cvtsepi32_epi8(q_high));
  const auto put = [row](std::byte* at, auto value) {
    std::memcpy(at + row * sizeof value, &value, sizeof value);
  };
  put(main + num_rows * 32, scale);
  put(main + num_rows * 36, scale * static_cast<float>(sum_low + sum_high));
  put(main + num_rows * 40, -128 * (sum_low + sum_high));
  put(halves, scale * static_cast<float>(sum_low));
  put(halves + num_rows * 4, scale * static_cast<float>(sum_high));
  put(halves + num_rows * 8, -128 * sum_low);
  put(halves + num_rows * 12, -128 * sum_high);
}

/// Takes lanes of a and b in turn, halving the number of lanes that remain to be combined:
/// per 128 bits {a0 a1 a2 a3}, {b0 b1 b2 b3} become {a0 a2, b0 b2, a1 a3, b1 b3}.
QUIRE_INLINE __m512 max_pairs(__m512 a, __m512 b) noexcept {
  return _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

QUIRE_INLINE __m512 max_quads(__m512 a, __m512 b) noexcept {
  const __m512d x = _mm512_castps_pd(a);
  const __m512d y = _mm512_castps_pd(b);
  return _mm512_max_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

QUIRE_INLINE __m512i add_pairs(__m512i a, __m512i b) noexcept {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

QUIRE_INLINE __m512i add_quads(__m512i a, __m512i b) noexcept {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/// Returns the maximum magnitude of each of 16 rows of 32 values.
QUIRE_INLINE __m512 row_maxima(const float* const* rows) noexcept {
  __m512 quads[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512 most[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const float* x = rows[4 * i + j];
      most[j] =
          _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x)), _mm512_abs_ps(_mm512_loadu_ps(x + 16)));
    }
    quads[i] = max_quads(max_pairs(most[0], most[1]), max_pairs(most[2], most[3]));
  }
  // Each 128-bit part of quads[i] now has a share of rows 4 i .. 4 i + 3.
  const __m512 low = _mm512_max_ps(_mm512_shuffle_f32x4(quads[0], quads[1], 0x44),
                                   _mm512_shuffle_f32x4(quads[0], quads[1], 0xee));
  const __m512 high = _mm512_max_ps(_mm512_shuffle_f32x4(quads[2], quads[3], 0x44),
                                    _mm512_shuffle_f32x4(quads[2], quads[3], 0xee));
  return _mm512_max_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                       _mm512_shuffle_f32x4(low, high, 0xdd));
}

/// Encodes two rows of 32 values as 64 bytes.
QUIRE_INLINE __m512i encode_two(const float* a, const float* b, float a_inverse,
                                float b_inverse) noexcept {
  const __m512 a_scale = _mm512_set1_ps(a_inverse);
  const __m512 b_scale = _mm512_set1_ps(b_inverse);
  const __m512i a_words =
      _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(a), a_scale)),
                         _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(a + 16), a_scale)));
  const __m512i b_words =
      _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(b), b_scale)),
                         _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(b + 16), b_scale)));
  // The packs work within 128-bit parts: part i holds quad i of each of the four halves of rows.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a_words, b_words));
}

/// The sums of both halves of each of 16 rows, from the sums of quads of pairs of rows.
struct half_sums {
  __m512i low;
  __m512i high;
};

QUIRE_INLINE half_sums sum_halves(const __m512i (&pairs)[8]) noexcept {
  const __m512i first = add_quads(add_pairs(pairs[0], pairs[1]), add_pairs(pairs[2], pairs[3]));
  const __m512i second = add_quads(add_pairs(pairs[4], pairs[5]), add_pairs(pairs[6], pairs[7]));
  // A 128-bit part holds one half of the even or odd rows of four pairs.
  const __m512i low = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 16, 24, 17, 25, 18, 26, 19, 27);
  return {_mm512_permutex2var_epi32(first, low, second),
          _mm512_permutex2var_epi32(first, _mm512_add_epi32(low, _mm512_set1_epi32(4)), second)};
}

QUIRE_INLINE void put_lanes(std::byte* at, __mmask16 mask, __m512i lanes) noexcept {
  _mm512_mask_storeu_epi32(at, mask, lanes);
}

/// Encodes 32 columns of up to 16 rows at once; those that are missing are zeros.
void quantize_columns(const float* const* rows, std::size_t num_rows, std::byte* main,
                      std::byte* halves) noexcept {
  const __m512 maxima = row_maxima(rows);
  const __mmask16 big = _mm512_cmp_ps_mask(maxima, _mm512_set1_ps(smallest_max), _CMP_GT_OQ);
  const __m512 most = _mm512_set1_ps(127.0f);
  const __m512 scale = _mm512_maskz_div_ps(big, maxima, most);
  alignas(64) float inverses[16];
  _mm512_store_ps(inverses, _mm512_maskz_div_ps(big, most, maxima));
  __m512i pairs[8];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i) {
    const __m512i q =
        encode_two(rows[2 * i], rows[2 * i + 1], inverses[2 * i], inverses[2 * i + 1]);
    if (2 * i + 1 < num_rows)
      _mm512_storeu_si512(main + 64 * i, q);
    else if (2 * i < num_rows)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(main + 64 * i), _mm512_castsi512_si256(q));
    pairs[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
  }
  const half_sums sums = sum_halves(pairs);
  const __m512i both = _mm512_add_epi32(sums.low, sums.high);
  const auto mask = static_cast<__mmask16>((1u << num_rows) - 1u);
  const std::size_t field = 4 * num_rows;
  std::byte* at = main + 32 * num_rows;
  put_lanes(at, mask, _mm512_castps_si512(scale));
  const __m512 low = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sums.low));
  const __m512 high = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sums.high));
  put_lanes(at + field, mask, _mm512_castps_si512(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(both))));
  const __m512i zero = _mm512_setzero_si512();
  put_lanes(at + 2 * field, mask, _mm512_sub_epi32(zero, _mm512_slli_epi32(both, 7)));
  put_lanes(halves, mask, _mm512_castps_si512(low));
  put_lanes(halves + field, mask, _mm512_castps_si512(high));
  put_lanes(halves + 2 * field, mask, _mm512_sub_epi32(zero, _mm512_slli_epi32(sums.low, 7)));
  put_lanes(halves + 3 * field, mask, _mm512_sub_epi32(zero, _mm512_slli_epi32(sums.high, 7)));
}

#undef QUIRE_INLINE

}  // namespace

void avx512_quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                     std::byte* group) noexcept {
  static constexpr float zeros[block_cols] = {};
  const std::size_t blocks = cols / block_cols;
  if (num_rows < 4) {  // too few to be worth a transposition
    for (std::size_t row = 0; row < num_rows; ++row)
      for (std::size_t b = 0; b < blocks; ++b)
        quantize_block(x + row * stride + b * block_cols, group + b * num_rows * main_row_bytes,
                       group + (blocks * main_row_bytes + b * half_row_bytes) * num_rows, num_rows,
                       row);
    return;
  }
  const float* rows[group_rows];
  for (std::size_t b = 0; b < blocks; ++b) {
    for (std::size_t row = 0; row < group_rows; ++row)
      rows[row] = row < num_rows ? x + row * stride + b * block_cols : zeros;
    quantize_columns(rows, num_rows, group + b * num_rows * main_row_bytes,
                     group + (blocks * main_row_bytes + b * half_row_bytes) * num_rows);
  }
}

void avx512_normalize(const float* x, const float* weight, float epsilon, std::size_t n,
                      float* out) noexcept {
  __m512 sums[4] = {};
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64)
    for (std::size_t j = 0; j < 4; ++j) {
      const __m512 v = _mm512_loadu_ps(x + i + 16 * j);
      sums[j] = _mm512_fmadd_ps(v, v, sums[j]);
    }
  const auto tail_mask = [n](std::size_t at) {
    return static_cast<__mmask16>(n - at >= 16 ? 0xffffu : (1u << (n - at)) - 1u);
  };
  for (; i < n; i += 16) {
    const __m512 v = _mm512_maskz_loadu_ps(tail_mask(i), x + i);
    sums[0] = _mm512_fmadd_ps(v, v, sums[0]);
  }
  const float squares = _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
  const float mean = squares / static_cast<float>(n) + epsilon;
  const __m512 factor = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean))));
  for (i = 0; i < n; i += 16) {
    const __mmask16 mask = tail_mask(i);
    const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + i)));
  }
}

}  // namespace quire

#pragma GCC pop_options
