// Attention of a few query rows over quantized rows where they lie (AVX-512 VNNI): what decoding one
// token does. Needs avx512_packed_attention.inl before it.
//
// Sixteen keys of a page at a time are turned in registers, so that a query's 4 values meet 16 keys
// at once. Values of 4 keys are interleaved in registers; weights become 16 bits in units of 64 keys, and
// their two bytes go through a product each.

// Keys that are in hand at a time; they lie in one page.
constexpr std::size_t lone_keys = pack_group;

// Groups of keys that share the units of their weights.
constexpr std::size_t lone_groups = 4;

// Query rows whose sums with the values of 64 dims fit the registers.
constexpr std::size_t lone_rows = 3;

// The next up to 16 positions of one page.
struct row_group {
  const std::byte* first;
  std::size_t num_rows;
  bool begins_page;  // or the run of positions
  const row_offsets* offsets;
};

// Goes over the groups of positions [begin, end) without a division for each.
class group_cursor {
 public:
  QUIRE_INLINE group_cursor(const paged_rows& rows, std::size_t begin, std::size_t end,
                            std::size_t offset, std::size_t row_bytes)
      : page_(rows.table + begin / rows.page_tokens),
        slot_(begin % rows.page_tokens),
        left_(end - begin),
        begins_(true),
        offset_(offset),
        row_bytes_(row_bytes) {}
  QUIRE_INLINE bool done() const { return left_ == 0; }
  QUIRE_INLINE row_group next(const paged_rows& rows) {
    const std::size_t n = smaller(lone_keys, smaller(rows.page_tokens - slot_, left_));
    const row_group group{
        rows.pages + to_index(*page_) * rows.page_bytes + offset_ + slot_ * row_bytes_, n,
        begins_, nullptr};
    left_ -= n;
    slot_ += n;
    begins_ = slot_ == rows.page_tokens;
    if (begins_) {
      slot_ = 0;
      ++page_;
    }
    return group;
  }

 private:
  const page_id* page_;
  std::size_t slot_;
  std::size_t left_;
  bool begins_;
  std::size_t offset_;
  std::size_t row_bytes_;
};

// sum += the products of 4 unsigned bytes per lane and the 4 signed bytes at `four`.
QUIRE_INLINE void add_products_of(__m512i& sum, __m512i is_unsigned, const std::int8_t* four) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(sum)
      : "v"(is_unsigned), "m"(*reinterpret_cast<const std::int8_t(*)[4]>(four)));
}

// sums += what blocks b and b + 1, or b alone, add to the scores of 16 rows.
template <kv_type Type, std::size_t Heads, bool Two>
QUIRE_INLINE void score_blocks(const std::byte* first, const row_offsets& offsets,
                               std::size_t blocks, std::size_t b, const packed_queries& q,
                               vec (&sums)[Heads]) {
  constexpr std::size_t parts = Two ? 2 : 1;
  vec scales[2];
  load_scales(first, offsets, b, scales);
  __m512i codes[16];
  turned_codes<Type, Two>(first + blocks * scale_bytes + b * block_bytes<Type>, offsets, codes);
#pragma GCC unroll 4
  for (std::size_t h = 0; h < Heads; ++h) {
    const std::size_t at = h * blocks + b;
    const std::int8_t* query = q.codes + at * kv_block_values;
#pragma GCC unroll 2
    for (std::size_t j = 0; j < parts; ++j) {
      __m512i products[2] = {_mm512_set1_epi32(q.starts[at + j]), _mm512_setzero_si512()};
#pragma GCC unroll 8
      for (std::size_t g = 0; g < 8; ++g)
        add_products_of(products[g % 2], codes[8 * j + g], query + j * kv_block_values + g * 4);
      sums[h] = fma(mul(_mm512_cvtepi32_ps(_mm512_add_epi32(products[0], products[1])), scales[j]),
                    set1(q.scales[at + j]), sums[h]);
    }
  }
}

template <kv_type Type, std::size_t Heads>
void score_quantized_rows(const paged_rows& rows, std::size_t begin, std::size_t end,
                          const packed_queries& q, float* out, std::size_t stride,
                          const row_fetch* fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  const row_offsets whole = offsets_in_page(lone_keys, rows.row_bytes_k);
  group_cursor cursor(rows, begin, end, rows.offset_k, rows.row_bytes_k);
  while (!cursor.done()) {
    const row_group group = cursor.next(rows);
    const bool asks = fetch != nullptr && group.begins_page;
    fetcher meanwhile(asks ? fetch++ : nullptr, 2);
    meanwhile.step();
    const auto score = [&](const row_offsets& offsets) {
      vec sums[Heads];
#pragma GCC unroll 4
      for (std::size_t h = 0; h < Heads; ++h) sums[h] = zero();
      std::size_t b = 0;
      for (; b + 2 <= blocks; b += 2)
        score_blocks<Type, Heads, true>(group.first, offsets, blocks, b, q, sums);
      if (b < blocks) score_blocks<Type, Heads, false>(group.first, offsets, blocks, b, q, sums);
#pragma GCC unroll 4
      for (std::size_t h = 0; h < Heads; ++h) store(out + h * stride, sums[h]);
    };
    if (group.num_rows == lone_keys)
      score(whole);
    else
      score(offsets_in_page(group.num_rows, rows.row_bytes_k));
    meanwhile.step();
    out += group.num_rows;
  }
}

template <kv_type Type>
void score_quantized(const paged_rows& rows, std::size_t begin, std::size_t end,
                     const packed_queries& q, std::size_t num_queries, float* out,
                     std::size_t stride, const row_fetch* fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  for (std::size_t g = 0; g < num_queries;) {
    const std::size_t heads = smaller(num_queries - g, 4);
    const packed_queries from{q.codes + g * blocks * kv_block_values, q.scales + g * blocks,
                              q.starts + g * blocks};
    float* to = out + g * stride;
    if (heads == 4) score_quantized_rows<Type, 4>(rows, begin, end, from, to, stride, fetch);
    if (heads == 3) score_quantized_rows<Type, 3>(rows, begin, end, from, to, stride, fetch);
    if (heads == 2) score_quantized_rows<Type, 2>(rows, begin, end, from, to, stride, fetch);
    if (heads == 1) score_quantized_rows<Type, 1>(rows, begin, end, from, to, stride, fetch);
    fetch = nullptr;  // once is enough
    g += heads;
  }
}

// Interleaves the codes of 4 keys; every result holds 16 dims of one block, the first two of block b.
QUIRE_INLINE void interleave(const __m512i (&key)[4], __m512i (&out)[4]) {
  const __m512i low01 = _mm512_unpacklo_epi8(key[0], key[1]);
  const __m512i high01 = _mm512_unpackhi_epi8(key[0], key[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(key[2], key[3]);
  const __m512i high23 = _mm512_unpackhi_epi8(key[2], key[3]);
  const __m512i a = _mm512_unpacklo_epi16(low01, low23);  // of each 16 dims the first 4
  const __m512i b = _mm512_unpackhi_epi16(low01, low23);
  const __m512i c = _mm512_unpacklo_epi16(high01, high23);
  const __m512i d = _mm512_unpackhi_epi16(high01, high23);
  out[0] = _mm512_shuffle_i32x4(a, b, 0x44);
  out[1] = _mm512_shuffle_i32x4(c, d, 0x44);
  out[2] = _mm512_shuffle_i32x4(a, b, 0xee);
  out[3] = _mm512_shuffle_i32x4(c, d, 0xee);
}

// Weights of a run of groups as bytes, for two blocks of dims.
template <std::size_t Rows>
struct split_rows {
  alignas(64) std::uint8_t high[Rows][2][lone_groups * lone_keys];
  alignas(64) std::uint8_t low[Rows][2][lone_groups * lone_keys];
  float units[2];
  // Sums of whole weights, for q4, whose codes are biased.
  std::int32_t totals[Rows][2];
};

// Multiplies weights by values' scales, and splits them in units of the largest scale.
template <kv_type Type, std::size_t Rows>
QUIRE_INLINE void split_groups(const row_group* groups, std::size_t num_groups, std::size_t b,
                               const float* weights, std::size_t stride, split_rows<Rows>& out) {
  constexpr float most_steps = 65280.0f;  // 2^16 - 256: rounding cannot carry out of two bytes
  vec scales[lone_groups][2];
  vec largest[2] = {zero(), zero()};
  for (std::size_t i = 0; i < num_groups; ++i) {
    load_scales(groups[i].first, *groups[i].offsets, b, scales[i]);
    for (std::size_t j = 0; j < 2; ++j) largest[j] = max(largest[j], scales[i][j]);
  }
  vec inverse[2];
  for (std::size_t j = 0; j < 2; ++j) {
    const float most = reduce_max(largest[j]);
    const bool empty = !(most > 0.0f);
    out.units[j] = empty ? 0.0f : most * (1.0f / most_steps);
    inverse[j] = set1(empty ? 0.0f : 1.0f / most);
  }
  __m512i totals[Rows][2];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < Rows; ++r)
    totals[r][0] = totals[r][1] = _mm512_setzero_si512();
  for (std::size_t i = 0; i < num_groups; ++i) {
    const vec factors[2] = {mul(mul(scales[i][0], inverse[0]), set1(most_steps)),
                            mul(mul(scales[i][1], inverse[1]), set1(most_steps))};
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Rows; ++r) {
      const vec weight = load_part(weights + r * stride, groups[i].num_rows);
#pragma GCC unroll 2
      for (std::size_t j = 0; j < 2; ++j) {
        // What is no number converts to the smallest integer: it counts as nothing.
        const __m512i steps =
            _mm512_max_epi32(_mm512_cvtps_epi32(mul(weight, factors[j])), _mm512_setzero_si512());
        if constexpr (Type == kv_type::q4) totals[r][j] = _mm512_add_epi32(totals[r][j], steps);
        _mm_store_si128(reinterpret_cast<__m128i*>(out.high[r][j] + i * lone_keys),
                        _mm512_cvtepi32_epi8(_mm512_srli_epi32(steps, 8)));
        _mm_store_si128(reinterpret_cast<__m128i*>(out.low[r][j] + i * lone_keys),
                        _mm512_cvtepi32_epi8(steps));
      }
    }
    weights += groups[i].num_rows;
  }
  if constexpr (Type == kv_type::q4)
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t j = 0; j < 2; ++j) out.totals[r][j] = _mm512_reduce_add_epi32(totals[r][j]);
}

// The codes of 4 keys, interleaved: every result holds 16 dims of one block, the first two of block
// b. Of q4 in their order, plus 8; of q8 as interleave() leaves them.
template <kv_type Type, bool Two>
QUIRE_INLINE void interleaved_codes(const std::byte* codes, const std::size_t* offsets,
                                    __m512i (&out)[4]) {
  if constexpr (Type == kv_type::q8) {
    __m512i key[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) key[i] = load_codes<Type>(codes + offsets[i], Two);
    interleave(key, out);
  } else {
    __m256i key[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i)
      key[i] = _mm256_maskz_loadu_epi64(Two ? 0x0f : 0x03, codes + offsets[i]);
    const __m256i low01 = _mm256_unpacklo_epi8(key[0], key[1]);
    const __m256i high01 = _mm256_unpackhi_epi8(key[0], key[1]);
    const __m256i low23 = _mm256_unpacklo_epi8(key[2], key[3]);
    const __m256i high23 = _mm256_unpackhi_epi8(key[2], key[3]);
    const __m512i ab = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_unpacklo_epi16(low01, low23)),
        _mm256_unpackhi_epi16(low01, low23), 1);
    const __m512i cd = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_unpacklo_epi16(high01, high23)),
        _mm256_unpackhi_epi16(high01, high23), 1);
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i bias = _mm512_set1_epi8(-120);  // 8 in both nibbles
    const __m512i first = _mm512_xor_si512(_mm512_shuffle_i32x4(ab, cd, 0x88), bias);
    const __m512i second = _mm512_xor_si512(_mm512_shuffle_i32x4(ab, cd, 0xdd), bias);
    out[0] = _mm512_and_si512(first, mask);
    out[1] = _mm512_and_si512(_mm512_srli_epi16(first, 4), mask);
    out[2] = _mm512_and_si512(second, mask);
    out[3] = _mm512_and_si512(_mm512_srli_epi16(second, 4), mask);
  }
}

// out (Rows, 64 dims of blocks b and b + 1) += the weights of a run of groups times their values.
template <kv_type Type, std::size_t Rows, bool Two>
void weigh_groups(const row_group* groups, std::size_t num_groups, std::size_t blocks,
                  std::size_t b, const split_rows<Rows>& weights, float* out,
                  const row_fetch* fetch) noexcept {
  constexpr std::size_t parts = Two ? 2 : 1;
  const std::size_t at = blocks * scale_bytes + b * block_bytes<Type>;
  __m512i highs[Rows][4];
  __m512i lows[Rows][4];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) {
      highs[r][j] = _mm512_setzero_si512();
      lows[r][j] = _mm512_setzero_si512();
    }
  for (std::size_t i = 0; i < num_groups; ++i) {
    const bool asks = fetch != nullptr && groups[i].begins_page;
    fetcher meanwhile(asks ? fetch++ : nullptr, (groups[i].num_rows + 3) / 4);
    for (std::size_t k = 0; k < groups[i].num_rows; k += 4) {
      meanwhile.step();
      __m512i value[4];
      interleaved_codes<Type, Two>(groups[i].first + at, groups[i].offsets->at + k, value);
#pragma GCC unroll 4
      for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
        for (std::size_t j = 0; j < parts; ++j) {
          const __m512i high = broadcast_four(weights.high[r][j] + i * lone_keys + k);
          add_products(highs[r][2 * j], high, value[2 * j]);
          add_products(highs[r][2 * j + 1], high, value[2 * j + 1]);
          const __m512i low = broadcast_four(weights.low[r][j] + i * lone_keys + k);
          add_products(lows[r][2 * j], low, value[2 * j]);
          add_products(lows[r][2 * j + 1], low, value[2 * j + 1]);
        }
    }
  }
  const std::size_t dim = blocks * kv_block_values;
#pragma GCC unroll 4
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (std::size_t j = 0; j < parts; ++j) {
      vec sum[2];
#pragma GCC unroll 2
      for (std::size_t i = 0; i < 2; ++i)
        sum[i] = fma(_mm512_cvtepi32_ps(highs[r][2 * j + i]), set1(256.0f),
                     _mm512_cvtepi32_ps(lows[r][2 * j + i]));
      if constexpr (Type == kv_type::q4) {
        const vec bias = set1(8.0f * static_cast<float>(weights.totals[r][j]));
        for (std::size_t i = 0; i < 2; ++i) sum[i] = sub(sum[i], bias);
      } else {
        const vec first = _mm512_shuffle_f32x4(sum[0], sum[1], 0x88);
        sum[1] = _mm512_shuffle_f32x4(sum[0], sum[1], 0xdd);
        sum[0] = first;
      }
      float* to = out + r * dim + (b + j) * kv_block_values;
      for (std::size_t i = 0; i < 2; ++i)
        store(to + i * width, fma(sum[i], set1(weights.units[j]), load(to + i * width)));
    }
}

template <kv_type Type, std::size_t Rows>
void weigh_quantized_rows(const paged_rows& rows, std::size_t begin, std::size_t end,
                          const float* weights, std::size_t stride, float* out,
                          const row_fetch* fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  for (std::size_t i = 0; i < Rows * blocks * kv_block_values; i += width) store(out + i, zero());
  split_rows<Rows> split;
  const row_offsets whole = offsets_in_page(lone_keys, rows.row_bytes_v);
  row_offsets parts[lone_groups] = {whole, whole, whole, whole};
  row_group groups[lone_groups];
  group_cursor cursor(rows, begin, end, rows.offset_v, rows.row_bytes_v);
  while (!cursor.done()) {
    std::size_t num_groups = 0;
    std::size_t num_pages = 0;
    std::size_t num_rows = 0;
    for (; num_groups < lone_groups && !cursor.done(); ++num_groups) {
      row_group& group = groups[num_groups];
      group = cursor.next(rows);
      num_rows += group.num_rows;
      num_pages += group.begins_page ? 1 : 0;
      group.offsets = &whole;
      if (group.num_rows == lone_keys) continue;
      parts[num_groups] = offsets_in_page(group.num_rows, rows.row_bytes_v);
      group.offsets = &parts[num_groups];
    }
    for (std::size_t b = 0; b < blocks; b += 2) {
      split_groups<Type>(groups, num_groups, b, weights, stride, split);
      const auto weigh_pair =
          b + 1 < blocks ? weigh_groups<Type, Rows, true> : weigh_groups<Type, Rows, false>;
      weigh_pair(groups, num_groups, blocks, b, split, out, b == 0 ? fetch : nullptr);
    }
    if (fetch != nullptr) fetch += num_pages;
    weights += num_rows;
  }
}

template <kv_type Type>
void weigh_quantized(const paged_rows& rows, std::size_t begin, std::size_t end,
                     const float* weights, std::size_t stride, std::size_t num_queries, float* out,
                     const row_fetch* fetch) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  for (std::size_t g = 0; g < num_queries;) {
    // Four rows go as two pairs.
    const std::size_t left = num_queries - g;
    const std::size_t heads = left == 4 ? 2 : smaller(left, lone_rows);
    const float* from = weights + g * stride;
    float* to = out + g * dim;
    if (heads == 3) weigh_quantized_rows<Type, 3>(rows, begin, end, from, stride, to, fetch);
    if (heads == 2) weigh_quantized_rows<Type, 2>(rows, begin, end, from, stride, to, fetch);
    if (heads == 1) weigh_quantized_rows<Type, 1>(rows, begin, end, from, stride, to, fetch);
    fetch = nullptr;  // once is enough
    g += heads;
  }
}
