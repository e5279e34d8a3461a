// Matrix products on AVX2 and FMA.
//
// vpmaddubsw adds two products into a saturating 16-bit sum. Codes are used as they are stored, so that
// sums of several quads fit; 8-bit and table codes are multiplied as magnitude times signed activation.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

#define QUIRE_YMM_TARGET
#include "compute/isa/ymm_matmul.hpp"

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
    static constexpr int run = is_signed(Type) ? 1 : formula.bits <= 4 ? 8 : formula.bits == 5 ? 4 : 2;

    QUIRE_INLINE void clear() noexcept { wide = _mm256_setzero_si256(); }

    /// Starts at -offset * sum of activations, given -128 times that.
    QUIRE_INLINE void begin(__m256i start) noexcept {
      constexpr int shift = formula.offset == 4 ? 5 : formula.offset == 8 ? 4 : formula.offset == 16 ? 3 : 2;
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

/// Loads 8 float weights.
template <tensor_type Type>
QUIRE_INLINE __m256 load_weights(const std::byte* at) noexcept {
  if constexpr (Type == tensor_type::f32) {
    return _mm256_load_ps(reinterpret_cast<const float*>(at));
  } else if constexpr (Type == tensor_type::f16) {
    return load_halves(at);
  } else {
    const __m128i bits = _mm_load_si128(reinterpret_cast<const __m128i*>(at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

template <tensor_type Type, int Rows>
void multiply_floats(const matmul_task& task, std::size_t panel, std::size_t first_row) noexcept {
  constexpr std::size_t element = Type == tensor_type::f32 ? 4 : 2;
  const std::byte* w = task.panels + panel * task.panel_bytes;
  const float* x = task.x_f32 + first_row * task.x_stride;
  __m256 low[Rows];
  __m256 high[Rows];
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) low[row] = high[row] = _mm256_setzero_ps();
  for (std::size_t k = 0; k < task.cols; ++k, w += panel_outputs * element) {
    const __m256 w_low = load_weights<Type>(w);
    const __m256 w_high = load_weights<Type>(w + 8 * element);
#pragma GCC unroll 4
    for (std::size_t row = 0; row < Rows; ++row) {
      const __m256 value = _mm256_broadcast_ss(x + row * task.x_stride + k);
      low[row] = _mm256_fmadd_ps(w_low, value, low[row]);
      high[row] = _mm256_fmadd_ps(w_high, value, high[row]);
    }
  }
  store_sums<Rows>(task, first_row, panel * panel_outputs, low);
  if (panel * panel_outputs + 8 < task.num_outputs)
    store_sums<Rows>(task, first_row, panel * panel_outputs + 8, high);
}

template <tensor_type Type>
void float_product(const matmul_task& task) noexcept {
  for (std::size_t panel = 0; panel < task.num_panels; ++panel) {
    std::size_t row = 0;
    for (; row + 4 <= task.num_rows; row += 4) multiply_floats<Type, 4>(task, panel, row);
    for (; row + 2 <= task.num_rows; row += 2) multiply_floats<Type, 2>(task, panel, row);
    for (; row < task.num_rows; ++row) multiply_floats<Type, 1>(task, panel, row);
  }
}

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

void quantize_block(const float* x, std::byte* main, std::byte* halves, std::size_t padded,
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
  const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),
                                           _mm256_packs_epi32(q[2], q[3]));
  // Both packs work within 128-bit lanes; this puts the groups of four back in order.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(main + row * block_cols),
                      _mm256_permutevar8x32_epi32(words, order));
  const auto put = [row](std::byte* at, auto value) {
    std::memcpy(at + row * sizeof value, &value, sizeof value);
  };
  put(main + padded * 32, scale);
  put(main + padded * 36, scale * static_cast<float>(sum_low + sum_high));
  put(main + padded * 40, -128 * (sum_low + sum_high));
  put(halves, scale * static_cast<float>(sum_low));
  put(halves + padded * 4, scale * static_cast<float>(sum_high));
  put(halves + padded * 8, -128 * sum_low);
  put(halves + padded * 12, -128 * sum_high);
}

void quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
              std::byte* group) noexcept {
  const std::size_t padded = padded_rows(num_rows);
  const std::size_t blocks = cols / block_cols;
  if (padded != num_rows) std::memset(group, 0, group_bytes(padded, cols));
  for (std::size_t row = 0; row < num_rows; ++row)
    for (std::size_t b = 0; b < blocks; ++b)
      quantize_block(x + row * stride + b * block_cols, group + b * padded * main_row_bytes,
                     group + (blocks * main_row_bytes + b * half_row_bytes) * padded, padded, row);
}

void normalize(const float* x, const float* weight, float epsilon, std::size_t n,
               float* out) noexcept {
  __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                    _mm256_setzero_ps()};
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (std::size_t j = 0; j < 4; ++j) {
      const __m256 v = _mm256_loadu_ps(x + i + 8 * j);
      sums[j] = _mm256_fmadd_ps(v, v, sums[j]);
    }
  float squares = sum_of(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]),
                                       _mm256_add_ps(sums[2], sums[3])));
  for (; i < n; ++i) squares += x[i] * x[i];
  const float mean = squares / static_cast<float>(n) + epsilon;
  const float factor = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean)));
  for (i = 0; i + 8 <= n; i += 8) {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(factor));
    _mm256_storeu_ps(out + i, _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)));
  }
  for (; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

template <tensor_type... Types>
constexpr matmul_kernels make_table() {
  matmul_kernels table;
  ((table.product[static_cast<std::size_t>(Types)] = quantized_product<avx2_dot, Types>), ...);
  table.product[static_cast<std::size_t>(tensor_type::f32)] = float_product<tensor_type::f32>;
  table.product[static_cast<std::size_t>(tensor_type::f16)] = float_product<tensor_type::f16>;
  table.product[static_cast<std::size_t>(tensor_type::bf16)] = float_product<tensor_type::bf16>;
  table.quantize = quantize;
  table.normalize = normalize;
  return table;
}

#undef QUIRE_INLINE

}  // namespace

using enum tensor_type;
constinit const matmul_kernels avx2_matmul =
    make_table<q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs>();

}  // namespace quire

#pragma GCC pop_options
