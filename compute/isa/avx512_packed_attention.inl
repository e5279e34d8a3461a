// Attention over quantized rows by integer dot products (AVX-512 VNNI). Needs simd_avx512.inl,
// kv_rows.inl and attention.inl before it.
//
// Keys: 4 values of 16 keys per register, so that a query's 4 values, broadcast, meet 16 keys at once
// and sums need no reduction. Codes are made unsigned by a bias, which the start of a sum takes back.
// Values: 4 keys of 16 dims per register; a weight times a value's scale becomes 16 bits in units of
// the block, and its two bytes go through a product each.

template <kv_type Type>
constexpr int code_bias = Type == kv_type::q8 ? 128 : 8;

// sum += the products of 4 unsigned and 4 signed bytes per lane. As assembly, because g++ 12 copies the
// sum of its own intrinsic from register to register, which takes a third of the loops below.
QUIRE_INLINE void add_products(__m512i& sum, __m512i is_unsigned, __m512i is_signed) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(is_unsigned), "v"(is_signed));
}

QUIRE_INLINE __m512i broadcast_four(const void* bytes) {
  std::int32_t four;
  __builtin_memcpy(&four, bytes, sizeof(four));
  return _mm512_set1_epi32(four);
}

// Keys that are rearranged at a time.
constexpr std::size_t pack_group = 16;

template <kv_type Type>
void pack_queries(const float* q, std::size_t num_rows, std::size_t dim,
                  const packed_queries& out) noexcept {
  const std::size_t num_blocks = num_rows * dim / kv_block_values;
  for (std::size_t b = 0; b < num_blocks; ++b) {
    const vec low = load(q + b * kv_block_values);
    const vec high = load(q + b * kv_block_values + width);
    const float most = reduce_max(max(abs(low), abs(high)));
    const bool empty = !(most > 1e-36f);  // below, 127 / most overflows
    const vec inverse = set1(empty ? 0.0f : 127.0f / most);
    const __m512i first = _mm512_cvtps_epi32(mul(low, inverse));
    const __m512i second = _mm512_cvtps_epi32(mul(high, inverse));
    auto* codes = reinterpret_cast<__m128i*>(out.codes + b * kv_block_values);
    _mm_storeu_si128(codes, _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128(codes + 1, _mm512_cvtepi32_epi8(second));
    out.scales[b] = empty ? 0.0f : most / 127.0f;
    out.starts[b] = -code_bias<Type> * _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
  }
}

// The rows of 16 keys from `position` on; what is outside [begin, end) stands for its neighbour.
QUIRE_INLINE void list_rows(const paged_rows& rows, std::size_t position, std::size_t begin,
                            std::size_t end, std::size_t offset, std::size_t row_bytes,
                            const std::byte* (&row)[pack_group]) {
  std::size_t p = position < begin ? begin : smaller(position, end - 1);
  std::size_t slot = p % rows.page_tokens;
  const std::byte* at = page_at(rows, p) + offset + slot * row_bytes;
  for (std::size_t i = 0; i < pack_group; ++i) {
    row[i] = at;
    if (position + i < p || p + 1 >= end) continue;
    ++p;
    at += row_bytes;
    if (++slot == rows.page_tokens) {
      slot = 0;
      at = page_at(rows, p) + offset;
    }
  }
}

// Asks for share `i` of the stretches.
QUIRE_INLINE void fetch_share(const row_fetch* fetch, std::size_t num_fetch, std::size_t i) {
  constexpr std::size_t shares = packed_block / pack_group;
  for (std::size_t f = i * num_fetch / shares; f < (i + 1) * num_fetch / shares; ++f)
    for (std::size_t byte = 0; byte < fetch[f].bytes + 63; byte += 64)
      __builtin_prefetch(fetch[f].from + byte);
}

// The scales of block b of 16 rows.
QUIRE_INLINE vec load_scales(const std::byte* const (&row)[pack_group], std::size_t b) {
  alignas(32) std::uint16_t bits[pack_group];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < pack_group; ++i)
    __builtin_memcpy(&bits[i], row[i] + b * scale_bytes, sizeof(bits[i]));
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<__m256i*>(bits)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 15));
}

// 64 codes of two blocks, or 32 of one and zeros; signed for q8, plus 8 for q4.
template <kv_type Type>
QUIRE_INLINE __m512i load_codes(const std::byte* quants, bool two) {
  if constexpr (Type == kv_type::q8) {
    const __mmask8 halves = two ? 0xff : 0x0f;
    return _mm512_maskz_loadu_epi64(halves, quants);
  } else {
    const __m512i bytes = _mm512_maskz_loadu_epi64(two ? 0x0f : 0x03, quants);
    const __m512i spread =
        _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), bytes);
    const __m512i shifted =
        _mm512_srlv_epi64(spread, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
    return _mm512_xor_si512(_mm512_and_si512(shifted, _mm512_set1_epi8(15)), _mm512_set1_epi8(8));
  }
}

template <kv_type Type>
constexpr std::size_t block_bytes = Type == kv_type::q8 ? kv_block_values : kv_block_values / 2;

template <kv_type Type>
void pack_keys(const paged_rows& rows, std::size_t begin, std::size_t end, const packed_keys& out,
               const row_fetch* fetch, std::size_t num_fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  const std::size_t block = begin / packed_block * packed_block;
  for (std::size_t first = 0; first < packed_block; first += pack_group) {
    fetch_share(fetch, num_fetch, first / pack_group);
    if (block + first >= end) continue;
    const std::byte* row[pack_group];
    list_rows(rows, block + first, begin, end, rows.offset_k, rows.row_bytes_k, row);
    for (std::size_t b = 0; b < blocks; ++b)
      store(out.scales + b * packed_block + first, load_scales(row, b));
    for (std::size_t b = 0; b < blocks; b += 2) {
      const bool two = b + 1 < blocks;
      alignas(64) float codes[pack_group][width];
      alignas(64) float turned[width][pack_group];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < pack_group; ++i) {
        __m512i c = load_codes<Type>(row[i] + blocks * scale_bytes + b * block_bytes<Type>, two);
        if constexpr (Type == kv_type::q8) c = _mm512_xor_si512(c, _mm512_set1_epi8(-128));
        _mm512_store_si512(codes[i], c);
      }
      transpose_tile(codes[0], width, turned[0], pack_group);
      std::uint8_t* to = out.codes + (b * kv_block_values * packed_block + first * 4);
      const std::size_t quads = two ? 16 : 8;
      for (std::size_t g = 0; g < quads; ++g)
        _mm512_store_si512(to + g * packed_block * 4, _mm512_load_si512(turned[g]));
    }
  }
}

template <std::size_t Rows, std::size_t Vecs>
QUIRE_INLINE void dot_tile(const packed_queries& q, std::size_t row, const packed_keys& keys,
                           std::size_t dim, std::size_t column, float* scores) {
  const std::size_t blocks = dim / kv_block_values;
  vec sums[Rows][Vecs];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (std::size_t j = 0; j < Vecs; ++j) sums[r][j] = zero();
  for (std::size_t b = 0; b < blocks; ++b) {
    __m512i products[Rows][Vecs];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (std::size_t j = 0; j < Vecs; ++j)
        products[r][j] = _mm512_set1_epi32(q.starts[(row + r) * blocks + b]);
    const std::uint8_t* codes = keys.codes + (b * kv_block_values * packed_block + column * 4);
    const std::int8_t* queries = q.codes + row * dim + b * kv_block_values;
#pragma GCC unroll 8
    for (std::size_t g = 0; g < 8; ++g) {
      __m512i key[Vecs];
#pragma GCC unroll 4
      for (std::size_t j = 0; j < Vecs; ++j)
        key[j] = _mm512_load_si512(codes + g * packed_block * 4 + j * 64);
#pragma GCC unroll 16
      for (std::size_t r = 0; r < Rows; ++r) {
        const __m512i query = broadcast_four(queries + r * dim + g * 4);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < Vecs; ++j) add_products(products[r][j], key[j], query);
      }
    }
#pragma GCC unroll 4
    for (std::size_t j = 0; j < Vecs; ++j) {
      const vec scales = load(keys.scales + b * packed_block + column + j * width);
#pragma GCC unroll 16
      for (std::size_t r = 0; r < Rows; ++r)
        sums[r][j] = fma(mul(_mm512_cvtepi32_ps(products[r][j]), scales),
                         set1(q.scales[(row + r) * blocks + b]), sums[r][j]);
    }
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (std::size_t j = 0; j < Vecs; ++j)
      store(scores + r * packed_block + column + j * width, sums[r][j]);
}

template <std::size_t Rows>
void dot_rows(const packed_queries& q, std::size_t row, const packed_keys& keys, std::size_t dim,
              std::size_t columns, float* scores) noexcept {
  if (columns == packed_block) return dot_tile<Rows, 4>(q, row, keys, dim, 0, scores);
  for (std::size_t j = 0; j < columns; j += width)
    dot_tile<Rows, 1>(q, row, keys, dim, j, scores);
}

inline void dot_packed(const packed_queries& q, std::size_t first, std::size_t num_rows,
                       const packed_keys& keys, std::size_t dim, std::size_t columns,
                       float* scores) noexcept {
  std::size_t r = 0;
  for (; r + 3 <= num_rows; r += 3)
    dot_rows<3>(q, first + r, keys, dim, columns, scores + r * packed_block);
  if (num_rows - r == 2) dot_rows<2>(q, first + r, keys, dim, columns, scores + r * packed_block);
  if (num_rows - r == 1) dot_rows<1>(q, first + r, keys, dim, columns, scores + r * packed_block);
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

// Scales to factors and a unit, per block.
QUIRE_INLINE void finish_scales(const packed_values& out, std::size_t blocks, std::size_t columns) {
  constexpr float most_steps = 65280.0f;  // 2^16 - 256: rounding cannot carry out of two bytes
  for (std::size_t b = 0; b < blocks; ++b) {
    float* factors = out.factors + b * packed_block;
    vec largest = zero();
    for (std::size_t i = 0; i < columns; i += width) largest = max(largest, load(factors + i));
    const float most = reduce_max(largest);
    const bool empty = !(most > 0.0f);
    out.units[b] = empty ? 0.0f : most * (1.0f / most_steps);
    // Divided first: a product of scales and steps could overflow.
    for (std::size_t i = 0; i < columns; i += width)
      store(factors + i, empty ? zero() : mul(div(load(factors + i), set1(most)), set1(most_steps)));
  }
}

template <kv_type Type>
void pack_values(const paged_rows& rows, std::size_t begin, std::size_t end,
                 const packed_values& out, const row_fetch* fetch,
                 std::size_t num_fetch) noexcept {
  constexpr std::size_t quad_bytes = kv_block_values * 4;
  constexpr std::size_t plane_bytes = packed_block / 4 * quad_bytes;
  const std::size_t blocks = blocks_of(rows.head_dim);
  const std::size_t block = begin / packed_block * packed_block;
  std::size_t columns = 0;
  for (std::size_t first = 0; first < packed_block; first += pack_group) {
    fetch_share(fetch, num_fetch, first / pack_group);
    if (block + first >= end) continue;
    columns = first + pack_group;
    const std::byte* row[pack_group];
    list_rows(rows, block + first, begin, end, rows.offset_v, rows.row_bytes_v, row);
    for (std::size_t b = 0; b < blocks; ++b)
      store(out.factors + b * packed_block + first, load_scales(row, b));
    for (std::size_t quad = 0; quad < pack_group / 4; ++quad)
      for (std::size_t b = 0; b < blocks; b += 2) {
        const bool two = b + 1 < blocks;
        __m512i key[4];
        __m512i mixed[4];
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
          key[i] = load_codes<Type>(
              row[4 * quad + i] + blocks * scale_bytes + b * block_bytes<Type>, two);
          if constexpr (Type == kv_type::q4) key[i] = _mm512_sub_epi8(key[i], _mm512_set1_epi8(8));
        }
        interleave(key, mixed);
        std::int8_t* to = out.codes + b * plane_bytes + (first / 4 + quad) * quad_bytes;
        _mm512_store_si512(to, mixed[0]);
        _mm512_store_si512(to + 64, mixed[1]);
        if (!two) continue;
        _mm512_store_si512(to + plane_bytes, mixed[2]);
        _mm512_store_si512(to + plane_bytes + 64, mixed[3]);
      }
  }
  finish_scales(out, blocks, columns);
}

// 64 weights of a row in units of the block, as bytes: keys 4 (4 j + i) onwards are dword 4 i + j.
QUIRE_INLINE void split_weights(const float* weights, const float* factors, std::size_t columns,
                                std::uint8_t* high, std::uint8_t* low) {
  __m512i steps[4];
#pragma GCC unroll 4
  for (std::size_t j = 0; j < 4; ++j)
    steps[j] = j * width < columns ? _mm512_cvtps_epi32(mul(load(weights + j * width),
                                                            load(factors + j * width)))
                                   : _mm512_setzero_si512();
  const __m512i first = _mm512_packus_epi32(steps[0], steps[1]);
  const __m512i second = _mm512_packus_epi32(steps[2], steps[3]);
  const __m512i mask = _mm512_set1_epi16(255);
  _mm512_store_si512(high, _mm512_packus_epi16(_mm512_srli_epi16(first, 8),
                                               _mm512_srli_epi16(second, 8)));
  _mm512_store_si512(low, _mm512_packus_epi16(_mm512_and_si512(first, mask),
                                              _mm512_and_si512(second, mask)));
}

template <std::size_t Rows>
void weigh_packed_rows(const float* weights, const float* factors, const packed_values& values,
                       std::size_t dim, std::size_t columns, float* out) noexcept {
  constexpr std::size_t quad_bytes = kv_block_values * 4;
  alignas(64) std::uint8_t high[Rows][packed_block];
  alignas(64) std::uint8_t low[Rows][packed_block];
  for (std::size_t b = 0; b < dim / kv_block_values; ++b) {
    for (std::size_t r = 0; r < Rows; ++r)
      split_weights(weights + r * packed_block, values.factors + b * packed_block, columns,
                    high[r], low[r]);
    __m512i highs[Rows][2];
    __m512i lows[Rows][2];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
      for (std::size_t j = 0; j < 2; ++j) {
        highs[r][j] = _mm512_setzero_si512();
        lows[r][j] = _mm512_setzero_si512();
      }
    const std::int8_t* codes = values.codes + b * (packed_block / 4 * quad_bytes);
    for (std::size_t quad = 0; quad < columns / 4; ++quad, codes += quad_bytes) {
      const __m512i value[2] = {_mm512_load_si512(codes), _mm512_load_si512(codes + 64)};
      const std::size_t at = (quad % 4 * 4 + quad / 4) * 4;
#pragma GCC unroll 8
      for (std::size_t r = 0; r < Rows; ++r) {
        const __m512i four_high = broadcast_four(high[r] + at);
        const __m512i four_low = broadcast_four(low[r] + at);
#pragma GCC unroll 2
        for (std::size_t j = 0; j < 2; ++j) {
          add_products(highs[r][j], four_high, value[j]);
          add_products(lows[r][j], four_low, value[j]);
        }
      }
    }
    const vec unit = set1(values.units[b]);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < Rows; ++r) {
      vec sum[2];
#pragma GCC unroll 2
      for (std::size_t j = 0; j < 2; ++j)
        sum[j] = fma(_mm512_cvtepi32_ps(highs[r][j]), set1(256.0f),
                     _mm512_cvtepi32_ps(lows[r][j]));
      float* to = out + r * dim + b * kv_block_values;
      const vec factor = set1(factors[r]);
      store(to, fma(_mm512_shuffle_f32x4(sum[0], sum[1], 0x88), unit, mul(load(to), factor)));
      store(to + width, fma(_mm512_shuffle_f32x4(sum[0], sum[1], 0xdd), unit,
                            mul(load(to + width), factor)));
    }
  }
}

inline void weigh_packed(const float* weights, const float* factors, std::size_t num_rows,
                         const packed_values& values, std::size_t dim, std::size_t columns,
                         float* out) noexcept {
  std::size_t r = 0;
  const auto run = [&](auto kernel, std::size_t rows) {
    kernel(weights + r * packed_block, factors + r, values, dim, columns, out + r * dim);
    r += rows;
  };
  while (r + 6 <= num_rows) run(weigh_packed_rows<6>, 6);
  if (num_rows - r >= 3) run(weigh_packed_rows<3>, 3);
  if (num_rows - r == 2) run(weigh_packed_rows<2>, 2);
  if (num_rows - r == 1) run(weigh_packed_rows<1>, 1);
}
