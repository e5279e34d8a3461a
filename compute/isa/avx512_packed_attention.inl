// Attention over quantized rows by integer dot products (AVX-512 VNNI). Needs simd_avx512.inl,
// kv_rows.inl and attention.inl before it.
//
// Keys: 4 values of 16 keys per register, so that a query's 4 values, broadcast, meet 16 keys at once
// and sums need no reduction. Codes are made unsigned by a bias, which the start of a sum takes back.
// Values: 2 keys of 16 dims per register, as 16 bits; a weight times a value's scale becomes 16 bits in
// units of the block. Those are made signed by a bias, which the start of a sum takes back.

template <kv_type Type>
constexpr int code_bias = Type == kv_type::q8 ? 128 : 8;

// sum += the products of 4 unsigned and 4 signed bytes per lane. As assembly, because g++ 12 copies the
// sum of its own intrinsic from register to register, which takes a third of the loops below.
QUIRE_INLINE void add_products(__m512i& sum, __m512i is_unsigned, __m512i is_signed) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(is_unsigned), "v"(is_signed));
}

// sum += the products of 2 values of 16 bits per lane, likewise.
QUIRE_INLINE void add_pairs(__m512i& sum, __m512i a, __m512i b) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

// g++ 12 would rather load a value again for each of its uses.
QUIRE_INLINE void keep_in_register(__m512i& value) { asm("" : "+v"(value)); }

QUIRE_INLINE __m512i broadcast_four(const void* bytes) {
  std::int32_t four;
  __builtin_memcpy(&four, bytes, sizeof(four));
  return _mm512_set1_epi32(four);
}

// Keys that are rearranged at a time.
constexpr std::size_t pack_group = 16;

// Values of 16 bits that two keys have in a block.
constexpr std::size_t pair_values = 2 * kv_block_values;

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
    // What is no number converts to the smallest integer: it counts as -128, in codes and sums alike.
    const __m512i least = _mm512_set1_epi32(-128);
    const __m512i first = _mm512_max_epi32(_mm512_cvtps_epi32(mul(low, inverse)), least);
    const __m512i second = _mm512_max_epi32(_mm512_cvtps_epi32(mul(high, inverse)), least);
    auto* codes = reinterpret_cast<__m128i*>(out.codes + b * kv_block_values);
    _mm_storeu_si128(codes, _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128(codes + 1, _mm512_cvtepi32_epi8(second));
    out.scales[b] = empty ? 0.0f : most / 127.0f;
    out.starts[b] = -code_bias<Type> * _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
  }
}

// Where 16 rows lie from some place on.
struct row_offsets {
  std::size_t at[pack_group];
};

// Of a page's rows as many as there are, then the last again.
QUIRE_INLINE row_offsets offsets_in_page(std::size_t num_rows, std::size_t row_bytes) {
  row_offsets out;
  for (std::size_t i = 0; i < pack_group; ++i) out.at[i] = smaller(i, num_rows - 1) * row_bytes;
  return out;
}

// Of 16 keys from `position` on, from the first page on; what is outside [begin, end) stands for its
// neighbour.
QUIRE_INLINE row_offsets offsets_of(const paged_rows& rows, std::size_t position, std::size_t begin,
                                    std::size_t end, std::size_t offset, std::size_t row_bytes) {
  row_offsets out;
  std::size_t p = position < begin ? begin : smaller(position, end - 1);
  std::size_t slot = p % rows.page_tokens;
  auto at = static_cast<std::size_t>(page_at(rows, p) - rows.pages) + offset + slot * row_bytes;
  if (p == position && slot + pack_group <= rows.page_tokens && position + pack_group <= end) {
    for (std::size_t i = 0; i < pack_group; ++i) out.at[i] = at + i * row_bytes;
    return out;
  }
  for (std::size_t i = 0; i < pack_group; ++i) {
    out.at[i] = at;
    if (position + i < p || p + 1 >= end) continue;
    ++p;
    at += row_bytes;
    if (++slot == rows.page_tokens) {
      slot = 0;
      at = static_cast<std::size_t>(page_at(rows, p) - rows.pages) + offset;
    }
  }
  return out;
}

// Asks for share `i` of the stretches.
QUIRE_INLINE void fetch_share(const row_fetch* fetch, std::size_t num_fetch, std::size_t i) {
  constexpr std::size_t shares = packed_block / pack_group;
  for (std::size_t f = i * num_fetch / shares; f < (i + 1) * num_fetch / shares; ++f)
    for (std::size_t byte = 0; byte < fetch[f].bytes + 63; byte += 64)
      __builtin_prefetch(fetch[f].from + byte);
}

QUIRE_INLINE __m128i load_four(const std::byte* from, const std::size_t* offsets) {
  std::int32_t four[4];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i)
    __builtin_memcpy(&four[i], from + offsets[i], sizeof(four[i]));
  return _mm_setr_epi32(four[0], four[1], four[2], four[3]);
}

// The scales of blocks b and b + 1 of 16 rows; what is read of a second block that is not there has
// no meaning. A gather instruction would take longer.
QUIRE_INLINE void load_scales(const std::byte* first, const row_offsets& offsets, std::size_t b,
                              vec (&scales)[2]) {
  const std::byte* from = first + b * scale_bytes;
  const __m256i low = _mm256_inserti128_si256(
      _mm256_castsi128_si256(load_four(from, offsets.at)), load_four(from, offsets.at + 4), 1);
  const __m256i high = _mm256_inserti128_si256(
      _mm256_castsi128_si256(load_four(from, offsets.at + 8)), load_four(from, offsets.at + 12), 1);
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  scales[0] = _mm512_castsi512_ps(_mm512_srli_epi32(_mm512_slli_epi32(both, 16), 1));
  scales[1] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_srli_epi32(both, 16), 15));
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

// a = a^T, for 16 x 16 values of 4 bytes.
QUIRE_INLINE void turn(__m512i (&a)[16]) {
  __m512i b[16];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (std::size_t j = 0; j < 2; ++j) {
      a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
      a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
    }
#pragma GCC unroll 4
  for (std::size_t j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
    a[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    a[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    a[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    a[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

// The codes of blocks b and b + 1 of 16 rows, or of b alone, 4 values of each per register, plus the
// type's bias.
template <kv_type Type, bool Two>
QUIRE_INLINE void turned_codes(const std::byte* codes, const row_offsets& offsets,
                               __m512i (&out)[16]) {
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 16; ++i) out[i] = load_codes<Type>(codes + offsets.at[i], Two);
  turn(out);
  if constexpr (Type == kv_type::q8)
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 16; ++i)
      out[i] = _mm512_xor_si512(out[i], _mm512_set1_epi8(-128));
}

// Packs blocks b and b + 1, or b alone, of 16 keys.
template <kv_type Type, bool Two>
QUIRE_INLINE void pack_key_blocks(const std::byte* pages, const row_offsets& offsets,
                                  std::size_t blocks, std::size_t b, std::size_t first,
                                  const packed_keys& out) {
  vec scales[2];
  load_scales(pages, offsets, b, scales);
  __m512i codes[16];
  turned_codes<Type, Two>(pages + blocks * scale_bytes + b * block_bytes<Type>, offsets, codes);
  constexpr std::size_t parts = Two ? 2 : 1;
#pragma GCC unroll 2
  for (std::size_t j = 0; j < parts; ++j)
    store(out.scales + (b + j) * packed_block + first, scales[j]);
  std::uint8_t* to = out.codes + (b * kv_block_values * packed_block + first * 4);
#pragma GCC unroll 16
  for (std::size_t g = 0; g < 8 * parts; ++g)
    _mm512_store_si512(to + g * packed_block * 4, codes[g]);
}

template <kv_type Type>
void pack_keys(const paged_rows& rows, std::size_t begin, std::size_t end, const packed_keys& out,
               const row_fetch* fetch, std::size_t num_fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  const std::size_t block = begin / packed_block * packed_block;
  for (std::size_t first = 0; first < packed_block; first += pack_group) {
    fetch_share(fetch, num_fetch, first / pack_group);
    if (block + first >= end) continue;
    const row_offsets offsets =
        offsets_of(rows, block + first, begin, end, rows.offset_k, rows.row_bytes_k);
    std::size_t b = 0;
    for (; b + 2 <= blocks; b += 2)
      pack_key_blocks<Type, true>(rows.pages, offsets, blocks, b, first, out);
    if (b < blocks) pack_key_blocks<Type, false>(rows.pages, offsets, blocks, b, first, out);
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
      for (std::size_t j = 0; j < Vecs; ++j) {
        key[j] = _mm512_load_si512(codes + g * packed_block * 4 + j * 64);
        keep_in_register(key[j]);
      }
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

// The order of a half block's 16 pairs of keys, which is what packing 32 weights to 16 bits leaves.
constexpr std::size_t first_of_pair(std::size_t i) { return i / 4 * 4 + i % 2 * 2 + i / 2 % 2 * 16; }

// The codes of two keys, in pairs of 16 bits: every result holds 16 dims, from block b on.
template <kv_type Type, bool Two>
QUIRE_INLINE void paired_codes(const std::byte* first, const std::byte* second, __m512i (&out)[4]) {
  // Of each 16 bytes the lower 8 belong to the first block, the upper to the second.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i a = _mm512_permutexvar_epi64(order, load_codes<Type>(first, Two));
  const __m512i b = _mm512_permutexvar_epi64(order, load_codes<Type>(second, Two));
  __m512i low = _mm512_unpacklo_epi8(a, b);
  __m512i high = _mm512_unpackhi_epi8(a, b);
  if constexpr (Type == kv_type::q4) {
    low = _mm512_sub_epi8(low, _mm512_set1_epi8(8));
    high = _mm512_sub_epi8(high, _mm512_set1_epi8(8));
  }
  out[0] = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(low));
  out[1] = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(low, 1));
  out[2] = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(high));
  out[3] = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(high, 1));
}

// Packs blocks b and b + 1, or b alone, of 32 keys, and adds up their codes.
template <kv_type Type, bool Two>
QUIRE_INLINE void pack_value_blocks(const std::byte* pages, const row_offsets (&offsets)[2],
                                    std::size_t blocks, std::size_t b, std::size_t half,
                                    const packed_values& out) {
  constexpr std::size_t parts = Two ? 2 : 1;
  const std::byte* from = pages + blocks * scale_bytes + b * block_bytes<Type>;
  std::int16_t* to = out.codes + b * kv_block_values * packed_block + half * pair_values * pack_group;
  std::int32_t* totals = out.starts + b * kv_block_values;
  __m512i sums[2 * parts];
#pragma GCC unroll 4
  for (std::size_t j = 0; j < 2 * parts; ++j) sums[j] = _mm512_load_si512(totals + j * width);
#pragma GCC unroll 16
  for (std::size_t i = 0; i < pack_group; ++i) {
    const std::size_t k = first_of_pair(i);
    __m512i codes[4];
    paired_codes<Type, Two>(from + offsets[k / pack_group].at[k % pack_group],
                            from + offsets[k / pack_group].at[k % pack_group + 1], codes);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 2 * parts; ++j) {
      add_pairs(sums[j], codes[j], _mm512_set1_epi16(1));
      _mm512_store_si512(to + (j / 2) * kv_block_values * packed_block + i * pair_values +
                             j % 2 * 32,
                         codes[j]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t j = 0; j < 2 * parts; ++j) _mm512_store_si512(totals + j * width, sums[j]);
}

template <kv_type Type>
void pack_values(const paged_rows& rows, std::size_t begin, std::size_t end,
                 const packed_values& out, const row_fetch* fetch,
                 std::size_t num_fetch) noexcept {
  const std::size_t blocks = blocks_of(rows.head_dim);
  const std::size_t block = begin / packed_block * packed_block;
  const std::size_t columns = (end - block + pack_group - 1) / pack_group * pack_group;
  for (std::size_t d = 0; d < blocks * kv_block_values; d += width)
    _mm512_store_si512(out.starts + d, _mm512_setzero_si512());
  for (std::size_t half = 0; half < 2; ++half) {
    row_offsets offsets[2];
    for (std::size_t i = 0; i < 2; ++i) {
      const std::size_t first = (2 * half + i) * pack_group;
      fetch_share(fetch, num_fetch, 2 * half + i);
      if (first >= columns && i == 0) break;
      // Beyond the columns weights are zeros: any codes will do.
      offsets[i] = offsets_of(rows, block + first, begin, end, rows.offset_v, rows.row_bytes_v);
      for (std::size_t b = 0; b < blocks; b += 2) {
        vec scales[2];
        load_scales(rows.pages, offsets[i], b, scales);
        store(out.factors + b * packed_block + first, scales[0]);
        if (b + 1 < blocks) store(out.factors + (b + 1) * packed_block + first, scales[1]);
      }
    }
    if (2 * half * pack_group >= columns) continue;
    std::size_t b = 0;
    for (; b + 2 <= blocks; b += 2)
      pack_value_blocks<Type, true>(rows.pages, offsets, blocks, b, half, out);
    if (b < blocks) pack_value_blocks<Type, false>(rows.pages, offsets, blocks, b, half, out);
  }
  for (std::size_t d = 0; d < blocks * kv_block_values; d += width) {
    const __m512i total = _mm512_load_si512(out.starts + d);
    _mm512_store_si512(out.starts + d, _mm512_slli_epi32(total, 15));
  }
  finish_scales(out, blocks, columns);
}

// 64 weights of a row in units of the block less 2^15, as 16 bits in pairs.
template <bool Whole>
QUIRE_INLINE void round_weights(const float* weights, const float* factors, std::size_t columns,
                                std::int16_t* out) {
  __m512i steps[4];
#pragma GCC unroll 4
  for (std::size_t j = 0; j < 4; ++j)
    steps[j] = Whole || j * width < columns
                   ? _mm512_cvtps_epi32(fma(load(weights + j * width), load(factors + j * width),
                                            set1(-32768.0f)))
                   : _mm512_set1_epi32(-32768);
  _mm512_store_si512(out, _mm512_packs_epi32(steps[0], steps[1]));
  _mm512_store_si512(out + 32, _mm512_packs_epi32(steps[2], steps[3]));
}

template <std::size_t Rows, bool Whole>
void weigh_packed_rows(const float* weights, const float* factors, const packed_values& values,
                       std::size_t dim, std::size_t columns, float* out) noexcept {
  alignas(64) std::int16_t steps[Rows][packed_block];
  for (std::size_t b = 0; b < dim / kv_block_values; ++b) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Rows; ++r)
      round_weights<Whole>(weights + r * packed_block, values.factors + b * packed_block, columns,
                    steps[r]);
    const std::int32_t* starts = values.starts + b * kv_block_values;
    __m512i sums[Rows][2];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r)
#pragma GCC unroll 2
      for (std::size_t j = 0; j < 2; ++j) sums[r][j] = _mm512_load_si512(starts + j * width);
    const std::int16_t* codes = values.codes + b * kv_block_values * packed_block;
    const std::size_t pairs = Whole ? packed_block / 2 : (columns + 31) / 32 * 16;
    for (std::size_t i = 0; i < pairs; ++i, codes += pair_values) {
      const __m512i value[2] = {_mm512_load_si512(codes), _mm512_load_si512(codes + 32)};
#pragma GCC unroll 16
      for (std::size_t r = 0; r < Rows; ++r) {
        const __m512i two = broadcast_four(steps[r] + 2 * i);
        add_pairs(sums[r][0], two, value[0]);
        add_pairs(sums[r][1], two, value[1]);
      }
    }
    const vec unit = set1(values.units[b]);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < Rows; ++r) {
      float* to = out + r * dim + b * kv_block_values;
      const vec factor = set1(factors[r]);
#pragma GCC unroll 2
      for (std::size_t j = 0; j < 2; ++j)
        store(to + j * width, fma(_mm512_cvtepi32_ps(sums[r][j]), unit,
                                  mul(load(to + j * width), factor)));
    }
  }
}

template <bool Whole>
void weigh_packed_columns(const float* weights, const float* factors, std::size_t num_rows,
                          const packed_values& values, std::size_t dim, std::size_t columns,
                          float* out) noexcept {
  std::size_t r = 0;
  const auto run = [&](auto kernel, std::size_t rows) {
    kernel(weights + r * packed_block, factors + r, values, dim, columns, out + r * dim);
    r += rows;
  };
  while (r + 12 <= num_rows) run(weigh_packed_rows<12, Whole>, 12);
  if (num_rows - r >= 6) run(weigh_packed_rows<6, Whole>, 6);
  if (num_rows - r >= 3) run(weigh_packed_rows<3, Whole>, 3);
  if (num_rows - r == 2) run(weigh_packed_rows<2, Whole>, 2);
  if (num_rows - r == 1) run(weigh_packed_rows<1, Whole>, 1);
}

inline void weigh_packed(const float* weights, const float* factors, std::size_t num_rows,
                         const packed_values& values, std::size_t dim, std::size_t columns,
                         float* out) noexcept {
  if (columns == packed_block)
    weigh_packed_columns<true>(weights, factors, num_rows, values, dim, columns, out);
  else
    weigh_packed_columns<false>(weights, factors, num_rows, values, dim, columns, out);
}
