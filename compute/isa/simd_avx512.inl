// Vectors of 16 floats. Included once per file, inside the ISA's namespace, under its target pragma.
// Nothing of the standard library is called here: an out-of-line copy of a template could be linked
// into code that runs on machines without this ISA.

#define QUIRE_INLINE [[gnu::always_inline]] inline

using vec = __m512;
constexpr std::size_t width = 16;
constexpr std::size_t vecs_per_block = 2;

QUIRE_INLINE vec load(const float* p) { return _mm512_loadu_ps(p); }
QUIRE_INLINE void store(float* p, vec v) { _mm512_storeu_ps(p, v); }
QUIRE_INLINE __mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>((1u << n) - 1u);
}
// The first n (at most width) lanes; the others are zero, or not written.
QUIRE_INLINE vec load_part(const float* p, std::size_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
QUIRE_INLINE void store_part(float* p, vec v, std::size_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
QUIRE_INLINE vec zero() { return _mm512_setzero_ps(); }
QUIRE_INLINE vec set1(float x) { return _mm512_set1_ps(x); }
QUIRE_INLINE vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
QUIRE_INLINE vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
QUIRE_INLINE vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
QUIRE_INLINE vec div(vec a, vec b) { return _mm512_div_ps(a, b); }
QUIRE_INLINE vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
// a * b - c in even lanes, a * b + c in odd ones.
QUIRE_INLINE vec fma_addsub(vec a, vec b, vec c) { return _mm512_fmaddsub_ps(a, b, c); }
// The second operand where either is NaN.
QUIRE_INLINE vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
QUIRE_INLINE vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
QUIRE_INLINE vec abs(vec a) { return _mm512_abs_ps(a); }
QUIRE_INLINE vec round(vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
QUIRE_INLINE float reduce_add(vec a) { return _mm512_reduce_add_ps(a); }
QUIRE_INLINE float reduce_max(vec a) { return _mm512_reduce_max_ps(a); }
QUIRE_INLINE vec swap_pairs(vec a) { return _mm512_permute_ps(a, 0xb1); }
// a0 a0 a1 a1 ... of 8 floats.
QUIRE_INLINE vec load_doubled(const float* p, std::size_t n) {
  const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(lanes, _mm512_maskz_loadu_ps(first_lanes(n), p));
}

// a * 2^n for whole n >= -200; underflows to zero.
QUIRE_INLINE vec times_power_of_2(vec a, vec n) { return _mm512_scalef_ps(a, n); }
constexpr float smallest_exponent = -200.0f;
QUIRE_INLINE vec zero_below(vec v, vec, vec) { return v; }

// v where low <= base + lane < high, else `other`.
QUIRE_INLINE vec select_range(vec v, vec other, std::size_t base, std::size_t low,
                              std::size_t high) {
  const __m512i lane = _mm512_add_epi32(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      _mm512_set1_epi32(static_cast<int>(base)));
  const __mmask16 inside =
      _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(static_cast<int>(low))) &
      _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(static_cast<int>(high)));
  return _mm512_mask_blend_ps(inside, other, v);
}

// The sums of the lanes of four vectors.
QUIRE_INLINE __m128 reduce4(vec a, vec b, vec c, vec d) {
  const vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d x = _mm512_castps_pd(ab);
  const __m512d y = _mm512_castps_pd(cd);
  const vec quads = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                                  _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  const __m256 halves =
      _mm256_add_ps(_mm512_castps512_ps256(quads), _mm512_extractf32x8_ps(quads, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

// Vector i of a block of 32 values.
QUIRE_INLINE vec halves_to_vec(const std::byte* p, std::size_t i) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p) + i));
}
QUIRE_INLINE void vec_to_halves(std::byte* p, std::size_t i, vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + i,
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
QUIRE_INLINE vec int8_to_vec(const std::byte* p, std::size_t i) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i)));
}
// The 32 values of a block, rounded to nearest even.
QUIRE_INLINE void block_to_int8(std::byte* p, const vec (&v)[vecs_per_block]) {
  for (std::size_t i = 0; i < vecs_per_block; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p) + i,
                     _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v[i])));
}
// 32 nibbles: low halves of the 16 bytes first, then high halves.
QUIRE_INLINE void nibbles_to_vecs(const std::byte* p, vec (&v)[vecs_per_block]) {
  const __m512i bytes =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  v[0] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(bytes, 28), 28));
  v[1] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(bytes, 24), 28));
}

// out (width, width) = in^T.
QUIRE_INLINE void transpose_tile(const float* in, std::size_t in_stride, float* out,
                                 std::size_t out_stride) {
  vec a[width];
  vec b[width];
  for (std::size_t i = 0; i < width; ++i) a[i] = load(in + i * in_stride);
  for (std::size_t i = 0; i < width; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (std::size_t i = 0; i < width; i += 4)
    for (std::size_t j = 0; j < 2; ++j) {
      const __m512d x = _mm512_castps_pd(b[i + j]);
      const __m512d y = _mm512_castps_pd(b[i + 2 + j]);
      a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
      a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
    }
  for (std::size_t j = 0; j < 4; ++j) {
    const vec even_low = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x88);
    const vec even_high = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x88);
    const vec odd_low = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xdd);
    const vec odd_high = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xdd);
    store(out + j * out_stride, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    store(out + (8 + j) * out_stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
    store(out + (4 + j) * out_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    store(out + (12 + j) * out_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
  }
}
