// Vectors of 8 floats. Included once per file, inside the ISA's namespace, under its target pragma.
// Nothing of the standard library is called here: an out-of-line copy of a template could be linked
// into code that runs on machines without this ISA.

#define QUIRE_INLINE [[gnu::always_inline]] inline

using vec = __m256;
constexpr std::size_t width = 8;
constexpr std::size_t vecs_per_block = 4;

QUIRE_INLINE vec load(const float* p) { return _mm256_loadu_ps(p); }
QUIRE_INLINE void store(float* p, vec v) { _mm256_storeu_ps(p, v); }
QUIRE_INLINE __m256i first_lanes(std::size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
// The first n (at most width) lanes; the others are zero, or not written.
QUIRE_INLINE vec load_part(const float* p, std::size_t n) {
  return _mm256_maskload_ps(p, first_lanes(n));
}
QUIRE_INLINE void store_part(float* p, vec v, std::size_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), v);
}
QUIRE_INLINE vec zero() { return _mm256_setzero_ps(); }
QUIRE_INLINE vec set1(float x) { return _mm256_set1_ps(x); }
QUIRE_INLINE vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
QUIRE_INLINE vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
QUIRE_INLINE vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
QUIRE_INLINE vec div(vec a, vec b) { return _mm256_div_ps(a, b); }
QUIRE_INLINE vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
// a * b - c in even lanes, a * b + c in odd ones.
QUIRE_INLINE vec fma_addsub(vec a, vec b, vec c) { return _mm256_fmaddsub_ps(a, b, c); }
// The second operand where either is NaN.
QUIRE_INLINE vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
QUIRE_INLINE vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
QUIRE_INLINE vec abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
QUIRE_INLINE vec round(vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
QUIRE_INLINE float reduce_add(vec a) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
QUIRE_INLINE float reduce_max(vec a) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}
QUIRE_INLINE vec swap_pairs(vec a) { return _mm256_permute_ps(a, 0xb1); }
// a0 a0 a1 a1 ... of n (at most 4) floats.
QUIRE_INLINE vec load_doubled(const float* p, std::size_t n) {
  return _mm256_permutevar8x32_ps(load_part(p, n), _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

// a * 2^n for whole n in [-126, 127].
QUIRE_INLINE vec times_power_of_2(vec a, vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
constexpr float smallest_exponent = -126.0f;
// v, but zero where x is below `limit`.
QUIRE_INLINE vec zero_below(vec v, vec x, vec limit) {
  return _mm256_and_ps(v, _mm256_cmp_ps(x, limit, _CMP_GE_OQ));
}

// v where low <= base + lane < high, else `other`.
QUIRE_INLINE vec select_range(vec v, vec other, std::size_t base, std::size_t low,
                              std::size_t high) {
  const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                        _mm256_set1_epi32(static_cast<int>(base)));
  const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(high)), lane);
  const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(low)), lane);
  return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(_mm256_andnot_si256(before, below)));
}

// The sums of the lanes of four vectors.
QUIRE_INLINE __m128 reduce4(vec a, vec b, vec c, vec d) {
  const vec ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  const vec cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  const __m256d x = _mm256_castps_pd(ab);
  const __m256d y = _mm256_castps_pd(cd);
  const vec quads = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                                  _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
  return _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1));
}

// Vector i of a block of 32 values.
QUIRE_INLINE vec halves_to_vec(const std::byte* p, std::size_t i) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i));
}
QUIRE_INLINE void vec_to_halves(std::byte* p, std::size_t i, vec v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p) + i,
                   _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
QUIRE_INLINE vec int8_to_vec(const std::byte* p, std::size_t i) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i))));
}
// The 32 values of a block, rounded to nearest even.
QUIRE_INLINE void block_to_int8(std::byte* p, const vec (&v)[vecs_per_block]) {
  const __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
  const __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32(v[2]), _mm256_cvtps_epi32(v[3]));
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd),
                                                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
}
// 32 nibbles: low halves of the 16 bytes first, then high halves.
QUIRE_INLINE void nibbles_to_vecs(const std::byte* p, vec (&v)[vecs_per_block]) {
  for (std::size_t i = 0; i < 2; ++i) {
    const __m256i bytes =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i)));
    v[i] = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(bytes, 28), 28));
    v[i + 2] = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(bytes, 24), 28));
  }
}

// out (width, width) = in^T.
QUIRE_INLINE void transpose_tile(const float* in, std::size_t in_stride, float* out,
                                 std::size_t out_stride) {
  vec a[width];
  vec b[width];
  for (std::size_t i = 0; i < width; ++i) a[i] = load(in + i * in_stride);
  for (std::size_t i = 0; i < width; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  for (std::size_t i = 0; i < width; i += 4)
    for (std::size_t j = 0; j < 2; ++j) {
      const __m256d x = _mm256_castps_pd(b[i + j]);
      const __m256d y = _mm256_castps_pd(b[i + 2 + j]);
      a[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(x, y));
      a[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(x, y));
    }
  for (std::size_t j = 0; j < 4; ++j) {
    store(out + j * out_stride, _mm256_permute2f128_ps(a[j], a[4 + j], 0x20));
    store(out + (4 + j) * out_stride, _mm256_permute2f128_ps(a[j], a[4 + j], 0x31));
  }
}
