// Attention kernels over vectors of `width` floats. Needs simd_*.inl, exponential.inl, kv_rows.inl and
// the sizes of register tiles before it.

// Keys whose scores are summed up together.
constexpr std::size_t score_keys = 4;

QUIRE_INLINE const std::byte* page_at(const paged_rows& rows, std::size_t position) {
  return rows.pages + to_index(rows.table[position / rows.page_tokens]) * rows.page_bytes;
}

QUIRE_INLINE std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

// Asks for a stretch of memory in even portions, so that requests do not queue up.
class fetcher {
 public:
  QUIRE_INLINE fetcher(const row_fetch* fetch, std::size_t portions)
      : next_(fetch != nullptr ? fetch->from : nullptr),
        end_(fetch != nullptr ? fetch->from + fetch->bytes : nullptr),
        portion_(fetch != nullptr ? fetch->bytes / portions + 1 : 0) {}
  QUIRE_INLINE void step() {
    for (const std::byte* stop = next_ + portion_; next_ < stop && next_ < end_; next_ += 64)
      __builtin_prefetch(next_);
  }

 private:
  const std::byte* next_;
  const std::byte* end_;
  std::size_t portion_;
};

// Adds the products of one block of values of four keys with `Heads` query rows.
template <std::size_t Heads>
QUIRE_INLINE void score_block(const vec (&key)[vecs_per_block], const float* q,
                              std::size_t q_stride, std::size_t i, vec (&sums)[Heads][score_keys]) {
#pragma GCC unroll 16
  for (std::size_t g = 0; g < Heads; ++g)
#pragma GCC unroll 4
    for (std::size_t j = 0; j < vecs_per_block; ++j)
      sums[g][i] = fma(key[j], load(q + g * q_stride + j * width), sums[g][i]);
}

template <kv_type Type, std::size_t Heads>
void score_tile(const paged_rows& rows, std::size_t begin, std::size_t end, const float* q,
                float* out, std::size_t stride, const row_fetch* fetch) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  const std::size_t blocks = dim / kv_block_values;
  const bool tail = has_tail<Type>(rows.head_dim);
  const std::size_t whole = tail ? blocks - 1 : blocks;
  for (std::size_t p = begin; p < end;) {
    const std::size_t slot = p % rows.page_tokens;
    const std::size_t n = smaller(rows.page_tokens - slot, end - p);
    const std::byte* keys = page_at(rows, p) + rows.offset_k + slot * rows.row_bytes_k;
    fetcher meanwhile(fetch, (n + score_keys - 1) / score_keys);
    if (fetch != nullptr) ++fetch;
    for (std::size_t t = 0; t < n; t += score_keys) {
      meanwhile.step();
      vec sums[Heads][score_keys];
      const std::byte* row[score_keys];
      for (std::size_t i = 0; i < score_keys; ++i) {
        row[i] = keys + smaller(t + i, n - 1) * rows.row_bytes_k;
        for (std::size_t g = 0; g < Heads; ++g) sums[g][i] = zero();
      }
      for (std::size_t b = 0; b < whole; ++b)
#pragma GCC unroll 4
        for (std::size_t i = 0; i < score_keys; ++i) {
          vec key[vecs_per_block];
          load_block<Type>(row[i], blocks, b, key);
          score_block<Heads>(key, q + b * kv_block_values, dim, i, sums);
        }
      if constexpr (Type == kv_type::f32 || Type == kv_type::f16) {
        if (tail)
          for (std::size_t i = 0; i < score_keys; ++i) {
            vec key[vecs_per_block];
            load_tail<Type>(row[i], rows.head_dim, key);
            score_block<Heads>(key, q + whole * kv_block_values, dim, i, sums);
          }
      }
      for (std::size_t g = 0; g < Heads; ++g)
        _mm_storeu_ps(out + g * stride + (p - begin) + t,
                      reduce4(sums[g][0], sums[g][1], sums[g][2], sums[g][3]));
    }
    p += n;
  }
}

template <kv_type Type>
void scores(const paged_rows& rows, std::size_t begin, std::size_t end, const float* q,
            std::size_t num_queries, float* out, std::size_t stride,
            const row_fetch* fetch) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  for (std::size_t g = 0; g < num_queries;) {
    const std::size_t heads = smaller(num_queries - g, score_heads);
    const float* from = q + g * dim;
    float* to = out + g * stride;
    if constexpr (score_heads >= 4)
      if (heads == 4) score_tile<Type, 4>(rows, begin, end, from, to, stride, fetch);
    if (heads == 3) score_tile<Type, 3>(rows, begin, end, from, to, stride, fetch);
    if (heads == 2) score_tile<Type, 2>(rows, begin, end, from, to, stride, fetch);
    if (heads == 1) score_tile<Type, 1>(rows, begin, end, from, to, stride, fetch);
    fetch = nullptr;  // once is enough
    g += heads;
  }
}

// Sums up `Blocks` blocks of values, from block `first` on, for `Heads` rows of weights.
template <kv_type Type, std::size_t Heads, std::size_t Blocks>
void weigh_tile(const paged_rows& rows, std::size_t begin, std::size_t end, std::size_t first,
                const float* weights, std::size_t stride, float* out,
                const row_fetch* fetch) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  const std::size_t blocks = dim / kv_block_values;
  const bool tail = has_tail<Type>(rows.head_dim) && first + Blocks == blocks;
  vec sums[Heads][Blocks * vecs_per_block];
  for (std::size_t g = 0; g < Heads; ++g)
    for (std::size_t j = 0; j < Blocks * vecs_per_block; ++j) sums[g][j] = zero();
  for (std::size_t p = begin; p < end;) {
    const std::size_t slot = p % rows.page_tokens;
    const std::size_t n = smaller(rows.page_tokens - slot, end - p);
    const std::byte* row = page_at(rows, p) + rows.offset_v + slot * rows.row_bytes_v;
    fetcher meanwhile(fetch, n);
    if (fetch != nullptr) ++fetch;
    for (std::size_t t = 0; t < n; ++t, row += rows.row_bytes_v) {
      const float* weight = weights + (p - begin) + t;
      meanwhile.step();
#pragma GCC unroll 2
      for (std::size_t b = 0; b < Blocks; ++b) {
        vec value[vecs_per_block];
        if constexpr (Type == kv_type::f32 || Type == kv_type::f16) {
          if (tail && b + 1 == Blocks)
            load_tail<Type>(row, rows.head_dim, value);
          else
            load_block<Type>(row, blocks, first + b, value);
        } else {
          load_block<Type>(row, blocks, first + b, value);
        }
#pragma GCC unroll 16
        for (std::size_t g = 0; g < Heads; ++g) {
          const vec factor = set1(weight[g * stride]);
#pragma GCC unroll 4
          for (std::size_t j = 0; j < vecs_per_block; ++j)
            sums[g][b * vecs_per_block + j] =
                fma(factor, value[j], sums[g][b * vecs_per_block + j]);
        }
      }
    }
    p += n;
  }
  for (std::size_t g = 0; g < Heads; ++g)
    for (std::size_t j = 0; j < Blocks * vecs_per_block; ++j)
      store(out + g * dim + first * kv_block_values + j * width, sums[g][j]);
}

template <kv_type Type, std::size_t Heads>
void weigh_heads_tile(const paged_rows& rows, std::size_t begin, std::size_t end,
                      const float* weights, std::size_t stride, float* out,
                const row_fetch* fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  std::size_t b = 0;
  for (; b + weigh_blocks <= blocks; b += weigh_blocks)
    weigh_tile<Type, Heads, weigh_blocks>(rows, begin, end, b, weights, stride, out,
                                            b == 0 ? fetch : nullptr);
  if constexpr (weigh_blocks > 1)
    for (; b < blocks; ++b)
      weigh_tile<Type, Heads, 1>(rows, begin, end, b, weights, stride, out,
                                            b == 0 ? fetch : nullptr);
}

template <kv_type Type>
void weigh(const paged_rows& rows, std::size_t begin, std::size_t end, const float* weights,
           std::size_t stride, std::size_t num_queries, float* out,
           const row_fetch* fetch) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  for (std::size_t g = 0; g < num_queries;) {
    const std::size_t heads = smaller(num_queries - g, weigh_heads);
    const float* from = weights + g * stride;
    float* to = out + g * dim;
    if constexpr (weigh_heads >= 4)
      if (heads == 4) weigh_heads_tile<Type, 4>(rows, begin, end, from, stride, to, fetch);
    if (heads == 3) weigh_heads_tile<Type, 3>(rows, begin, end, from, stride, to, fetch);
    if (heads == 2) weigh_heads_tile<Type, 2>(rows, begin, end, from, stride, to, fetch);
    if (heads == 1) weigh_heads_tile<Type, 1>(rows, begin, end, from, stride, to, fetch);
    fetch = nullptr;  // once is enough
    g += heads;
  }
}

inline float softmax(float* s, std::size_t n, float& max_out) noexcept {
  const vec lowest = set1(-__builtin_inff());
  if (n % width != 0) {  // the slack takes part as what adds nothing
    float* last = s + n / width * width;
    store(last, select_range(load(last), lowest, 0, 0, n % width));
  }
  vec most = lowest;
  for (std::size_t i = 0; i < n; i += width) most = max(most, load(s + i));
  max_out = reduce_max(most);
  const vec offset = set1(max_out);
  vec sum = zero();
  for (std::size_t i = 0; i < n; i += width) {
    const vec e = power_of_2(sub(load(s + i), offset));
    store(s + i, e);
    sum = add(sum, e);
  }
  return reduce_add(sum);
}

// The largest of columns [low, high) of n, at least `at_least`; what does not count becomes minus
// infinity.
QUIRE_INLINE float masked_max(float* s, std::size_t n, std::size_t low, std::size_t high,
                              float at_least) {
  const vec lowest = set1(-__builtin_inff());
  vec most = set1(at_least);
  if (low != 0 || high != n)
    for (std::size_t i = 0; i < n; i += width)
      store(s + i, select_range(load(s + i), lowest, i, low, high));
  for (std::size_t i = 0; i < n; i += width) most = max(most, load(s + i));
  return reduce_max(most);
}

// In three passes, so that the exponentials of the factors fill vectors and rows do not wait for each
// other.
inline void softmax_rows(float* s, std::size_t stride, std::size_t num_rows, std::size_t n,
                         const std::uint32_t* low, const std::uint32_t* high, float* max_io,
                         float* sum_io, float* factors) noexcept {
  for (std::size_t first = 0; first < num_rows; first += width) {
    const std::size_t rows = smaller(num_rows - first, width);
    for (std::size_t r = first; r < first + rows; ++r) {
      const float old = max_io[r];
      if (low[r] < high[r]) max_io[r] = masked_max(s + r * stride, n, low[r], high[r], old);
      factors[r] = low[r] < high[r] ? old - max_io[r] : 0.0f;
    }
    store_part(factors + first, power_of_2(load_part(factors + first, rows)), rows);
    for (std::size_t r = first; r < first + rows; ++r) {
      float* row = s + r * stride;
      if (low[r] >= high[r]) {
        for (std::size_t i = 0; i < n; i += width) store(row + i, zero());
        continue;
      }
      const vec offset = set1(max_io[r]);
      vec sum = zero();
      for (std::size_t i = 0; i < n; i += width) {
        const vec e = power_of_2(sub(load(row + i), offset));
        store(row + i, e);
        sum = add(sum, e);
      }
      sum_io[r] = sum_io[r] * factors[r] + reduce_add(sum);
    }
  }
}

inline void scale(float* x, std::size_t n, float factor) noexcept {
  const vec f = set1(factor);
  for (std::size_t i = 0; i < n; i += width) store(x + i, mul(load(x + i), f));
}

inline void transpose(const float* in, std::size_t in_stride, std::size_t dim, float* out,
                      std::size_t out_stride) noexcept {
  for (std::size_t d = 0; d < dim; d += width)
    for (std::size_t r = 0; r < transpose_rows; r += width)
      transpose_tile(in + r * in_stride + d, in_stride, out + d * out_stride + r, out_stride);
}

template <std::size_t Rows, std::size_t Vecs>
void multiply_tile(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
                   std::size_t depth, float* c, std::size_t c_stride, bool accumulate) noexcept {
  vec sums[Rows][Vecs];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 16
    for (std::size_t j = 0; j < Vecs; ++j)
      sums[r][j] = accumulate ? load(c + r * c_stride + j * width) : zero();
  for (std::size_t k = 0; k < depth; ++k) {
    vec columns[Vecs];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < Vecs; ++j) columns[j] = load(b + k * b_stride + j * width);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec factor = set1(a[r * a_stride + k]);
#pragma GCC unroll 16
      for (std::size_t j = 0; j < Vecs; ++j) sums[r][j] = fma(factor, columns[j], sums[r][j]);
    }
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 16
    for (std::size_t j = 0; j < Vecs; ++j) store(c + r * c_stride + j * width, sums[r][j]);
}

template <std::size_t Vecs>
void multiply_columns(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
                      std::size_t num_rows, std::size_t depth, float* c, std::size_t c_stride,
                      bool accumulate) noexcept {
  std::size_t r = 0;
  for (; r + multiply_rows <= num_rows; r += multiply_rows)
    multiply_tile<multiply_rows, Vecs>(a + r * a_stride, a_stride, b, b_stride, depth,
                                       c + r * c_stride, c_stride, accumulate);
  for (; r + 3 <= num_rows; r += 3)
    multiply_tile<3, Vecs>(a + r * a_stride, a_stride, b, b_stride, depth, c + r * c_stride,
                           c_stride, accumulate);
  for (; r < num_rows; ++r)
    multiply_tile<1, Vecs>(a + r * a_stride, a_stride, b, b_stride, depth, c + r * c_stride,
                           c_stride, accumulate);
}

inline void multiply(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
                     std::size_t num_rows, std::size_t depth, std::size_t cols, float* c,
                     std::size_t c_stride, bool accumulate) noexcept {
  std::size_t j = 0;
  for (; j + multiply_vecs * width <= cols; j += multiply_vecs * width)
    multiply_columns<multiply_vecs>(a, a_stride, b + j, b_stride, num_rows, depth, c + j, c_stride,
                                    accumulate);
  for (; j < cols; j += 2 * width)
    multiply_columns<2>(a, a_stride, b + j, b_stride, num_rows, depth, c + j, c_stride,
                        accumulate);
}
