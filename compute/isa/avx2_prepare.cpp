// Encodes activations on AVX2, and RMSNorm of a row.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/prepare.hpp"
#include "compute/matmul_kernels.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

QUIRE_INLINE __m128 fold(__m256 v) noexcept {
  return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}

QUIRE_INLINE float sum_of(__m256 v) noexcept {
  __m128 four = fold(v);
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

QUIRE_INLINE int sum_of(__m256i v) noexcept {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

QUIRE_INLINE float max_of(__m256 v) noexcept {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

void quantize_block(const float* x, std::byte* main, std::byte* halves, std::size_t num_rows,
                    std::size_t row) noexcept {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 v[4];
  __m256 most = _mm256_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    most = _mm256_max_ps(most, _mm256_andnot_ps(sign, v[i]));
  }
  const float max = max_of(most);
  // Below this 127 / max overflows; such a block is as good as zero.
  const float inverse = max > 1e-36f ? 127.0f / max : 0.0f;
  const float scale = max > 1e-36f ? max / 127.0f : 0.0f;
  __m256i q[4];
  for (int i = 0; i < 4; ++i)
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)));
  const int sum_low = sum_of(_mm256_add_epi32(q[0], q[1]));
  const int sum_high = sum_of(_mm256_add_epi32(q[2], q[3]));
  const __m256i words =
      _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  // Both packs work within 128-bit lanes; this puts the groups of four back in order.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(main + row * block_cols),
                      _mm256_permutevar8x32_epi32(words, order));
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

#undef QUIRE_INLINE

}  // namespace

void avx2_quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                   std::byte* group) noexcept {
  const std::size_t blocks = cols / block_cols;
  for (std::size_t row = 0; row < num_rows; ++row)
    for (std::size_t b = 0; b < blocks; ++b)
      quantize_block(x + row * stride + b * block_cols, group + b * num_rows * main_row_bytes,
                     group + (blocks * main_row_bytes + b * half_row_bytes) * num_rows, num_rows,
                     row);
}

void avx2_normalize(const float* x, const float* weight, float epsilon, std::size_t n,
                    float* out) noexcept {
  __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                    _mm256_setzero_ps()};
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (std::size_t j = 0; j < 4; ++j) {
      const __m256 v = _mm256_loadu_ps(x + i + 8 * j);
      sums[j] = _mm256_fmadd_ps(v, v, sums[j]);
    }
  float squares =
      sum_of(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
  for (; i < n; ++i) squares += x[i] * x[i];
  const float mean = squares / static_cast<float>(n) + epsilon;
  const float factor = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean)));
  for (i = 0; i + 8 <= n; i += 8) {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(factor));
    _mm256_storeu_ps(out + i, _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)));
  }
  for (; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

}  // namespace quire

#pragma GCC pop_options
