// Exponentials of vectors, relative error about 2e-7. Needs simd_*.inl before it.

// e^r for |r| <= ln(2) / 2: the Taylor series, whose rest is below r^7 / 5040.
QUIRE_INLINE vec exponential_near_zero(vec r) {
  vec p = fma(set1(1.0f / 720.0f), r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  return fma(p, r, set1(1.0f));
}

// 2^x for x <= 0, minus infinity included.
QUIRE_INLINE vec power_of_2(vec x) {
  const vec limit = set1(smallest_exponent);
  const vec bounded = max(x, limit);
  const vec n = round(bounded);
  const vec r = mul(sub(bounded, n), set1(0.693147181f));
  return zero_below(times_power_of_2(exponential_near_zero(r), n), x, limit);
}

// e^x, with x bounded to where it is a normal float.
QUIRE_INLINE vec exponential(vec x) {
  const vec bounded = min(max(x, set1(-87.0f)), set1(88.0f));
  const vec n = round(mul(bounded, set1(1.44269504f)));
  // ln 2 in two parts: the first has few enough bits that n times it is exact.
  vec r = fma(n, set1(-0.693359375f), bounded);
  r = fma(n, set1(2.12194440e-4f), r);
  return times_power_of_2(exponential_near_zero(r), n);
}
