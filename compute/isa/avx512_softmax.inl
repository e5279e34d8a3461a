// The online softmax of many rows of up to 64 columns for AVX-512, 16 rows at a time. Needs
// simd_avx512.inl before it.

// 2^x for x <= 0, minus infinity included; relative error below 1.5e-7. The polynomial is the one of
// degree 5 that comes closest to 2^x in [0, 1), by Remez' exchange.
QUIRE_INLINE vec power_of_2_by_parts(vec x) {
  const vec part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  vec p = fma(set1(1.8775767e-3f), part, set1(8.9893397e-3f));
  p = fma(p, part, set1(5.5826318e-2f));
  p = fma(p, part, set1(2.4015361e-1f));
  p = fma(p, part, set1(6.9315308e-1f));
  p = fma(p, part, set1(9.9999994e-1f));
  return _mm512_scalef_ps(p, x);  // by the whole part of x
}

template <bool Largest>
QUIRE_INLINE vec combine(vec a, vec b) {
  return Largest ? max(a, b) : add(a, b);
}

// Lane r is the largest of the lanes of v[r], or their sum.
template <bool Largest>
QUIRE_INLINE vec combine_lanes(vec (&v)[16]) {
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i)
    v[i] = combine<Largest>(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                   _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(v[2 * i]);
    const __m512d b = _mm512_castps_pd(v[2 * i + 1]);
    v[i] = combine<Largest>(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                   _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 2; ++i)
    v[i] = combine<Largest>(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x88),
                   _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xdd));
  return combine<Largest>(_mm512_shuffle_f32x4(v[0], v[1], 0x88), _mm512_shuffle_f32x4(v[0], v[1], 0xdd));
}

// What does not count of a row becomes minus infinity.
QUIRE_INLINE void mask_row(float* s, std::size_t n, std::size_t low, std::size_t high) {
  if (low == 0 && high == n) return;
  for (std::size_t i = 0; i < n; i += width)
    store(s + i, select_range(load(s + i), set1(-__builtin_inff()), i, low, high));
}

// Up to 16 rows of Vecs vectors.
template <std::size_t Vecs>
inline void softmax_rows_16(float* s, std::size_t stride, std::size_t rows,
                            const std::uint32_t* low, const std::uint32_t* high, float* max_io,
                            float* sum_io, float* factors) noexcept {
  constexpr std::size_t n = Vecs * width;
  const vec lowest = set1(-__builtin_inff());
  vec parts[16];
  for (std::size_t r = rows; r < 16; ++r) parts[r] = lowest;
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = s + r * stride;
    mask_row(row, n, low[r], high[r]);
    vec most = load(row);
#pragma GCC unroll 4
    for (std::size_t i = width; i < n; i += width) most = max(most, load(row + i));
    parts[r] = most;
  }
  const vec old = load_part(max_io, rows);
  const vec now = max(combine_lanes<true>(parts), old);
  store_part(max_io, now, rows);
  // Rows that have seen nothing yet are at minus infinity, and stay there.
  alignas(64) float offsets[16];
  const vec offset = max(now, set1(-3.0e38f));
  store(offsets, offset);
  const vec factor = power_of_2_by_parts(sub(max(old, set1(-3.0e38f)), offset));
  store_part(factors, factor, rows);
  for (std::size_t r = rows; r < 16; ++r) parts[r] = zero();
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = s + r * stride;
    const vec from = set1(offsets[r]);
    vec sum = zero();
#pragma GCC unroll 4
    for (std::size_t i = 0; i < n; i += width) {
      const vec e = power_of_2_by_parts(sub(load(row + i), from));
      store(row + i, e);
      sum = add(sum, e);
    }
    parts[r] = sum;
  }
  const vec total = combine_lanes<false>(parts);
  store_part(sum_io, fma(load_part(sum_io, rows), factor, total), rows);
}

inline void softmax_rows_wide(float* s, std::size_t stride, std::size_t num_rows, std::size_t n,
                              const std::uint32_t* low, const std::uint32_t* high, float* max_io,
                              float* sum_io, float* factors) noexcept {
  constexpr decltype(&softmax_rows_16<1>) kernels[] = {softmax_rows_16<1>, softmax_rows_16<2>,
                                                       softmax_rows_16<3>, softmax_rows_16<4>};
  for (std::size_t r = 0; r < num_rows; r += 16)
    kernels[n / width - 1](s + r * stride, stride, smaller(num_rows - r, 16), low + r, high + r,
                           max_io + r, sum_io + r, factors + r);
}
