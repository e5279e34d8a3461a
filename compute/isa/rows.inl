// Row kernels over vectors of `width` floats. Needs simd_*.inl and exponential.inl before it.

inline float sum_of_squares(const float* x, std::size_t n) noexcept {
  vec sums[4] = {zero(), zero(), zero(), zero()};
  std::size_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width)
    for (std::size_t j = 0; j < 4; ++j) {
      const vec v = load(x + i + j * width);
      sums[j] = fma(v, v, sums[j]);
    }
  for (; i < n; i += width) {
    const vec v = load_part(x + i, n - i < width ? n - i : width);
    sums[0] = fma(v, v, sums[0]);
  }
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

inline void rmsnorm(const float* x, const float* weight, std::size_t n, float epsilon,
                    float* out) noexcept {
  const float mean = sum_of_squares(x, n) / static_cast<float>(n);
  const vec factor = set1(1.0f / __builtin_sqrtf(mean + epsilon));
  std::size_t i = 0;
  for (; i + width <= n; i += width)
    store(out + i, mul(mul(load(x + i), factor), load(weight + i)));
  if (i < n)
    store_part(out + i, mul(mul(load_part(x + i, n - i), factor), load_part(weight + i, n - i)),
               n - i);
}

inline void rotate_adjacent(float* x, const float* cosines, const float* sines,
                            std::size_t dim) noexcept {
  for (std::size_t i = 0; i < dim; i += width) {
    const std::size_t n = dim - i < width ? dim - i : width;
    const vec v = load_part(x + i, n);
    const vec cosine = load_doubled(cosines + i / 2, n / 2);
    const vec sine = load_doubled(sines + i / 2, n / 2);
    store_part(x + i, fma_addsub(v, cosine, mul(swap_pairs(v), sine)), n);
  }
}

inline void rotate_halves(float* x, const float* cosines, const float* sines,
                          std::size_t dim) noexcept {
  const std::size_t half = dim / 2;
  for (std::size_t i = 0; i < half; i += width) {
    const std::size_t n = half - i < width ? half - i : width;
    const vec a = load_part(x + i, n);
    const vec b = load_part(x + half + i, n);
    const vec cosine = load_part(cosines + i, n);
    const vec sine = load_part(sines + i, n);
    store_part(x + i, sub(mul(a, cosine), mul(b, sine)), n);
    store_part(x + half + i, fma(b, cosine, mul(a, sine)), n);
  }
}

// x / (1 + e^-t)
QUIRE_INLINE vec times_sigmoid(vec x, vec t) {
  return div(x, add(set1(1.0f), exponential(sub(zero(), t))));
}

inline void gate_silu(const float* gate, const float* up, std::size_t n, float* out) noexcept {
  for (std::size_t i = 0; i < n; i += width) {
    const std::size_t m = n - i < width ? n - i : width;
    const vec x = load_part(gate + i, m);
    store_part(out + i, mul(times_sigmoid(x, x), load_part(up + i, m)), m);
  }
}

// (1 + tanh(t)) / 2 is the logistic function of 2 t.
inline void gate_gelu_tanh(const float* gate, const float* up, std::size_t n,
                           float* out) noexcept {
  const vec factor = set1(2.0f * 0.7978845608f);
  for (std::size_t i = 0; i < n; i += width) {
    const std::size_t m = n - i < width ? n - i : width;
    const vec x = load_part(gate + i, m);
    const vec t = mul(factor, fma(mul(set1(0.044715f), mul(x, x)), x, x));
    store_part(out + i, mul(times_sigmoid(x, t), load_part(up + i, m)), m);
  }
}

inline void add_row(float* x, const float* y, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + width <= n; i += width) store(x + i, add(load(x + i), load(y + i)));
  if (i < n) store_part(x + i, add(load_part(x + i, n - i), load_part(y + i, n - i)), n - i);
}
