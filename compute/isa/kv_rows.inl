// Rows of keys and values, block by block, for vectors of `width` floats: compute/kv_layout.hpp has
// the formats, scalar_attention.cpp the plain formulas. Needs simd_*.inl before it.

constexpr std::size_t scale_bytes = 2;

QUIRE_INLINE std::size_t blocks_of(std::size_t head_dim) {
  return padded_dim(head_dim) / kv_block_values;
}

QUIRE_INLINE float scale_at(const std::byte* row, std::size_t block) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, row + block * scale_bytes, sizeof(bits));
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 15);
}

// The bytes of a value in types that have no blocks.
template <kv_type Type>
constexpr std::size_t value_bytes = Type == kv_type::f32 ? 4 : 2;

// Block `b` of a row with `blocks` blocks; rows of f32 and f16 must hold all of it.
template <kv_type Type>
QUIRE_INLINE void load_block(const std::byte* row, std::size_t blocks, std::size_t b,
                             vec (&out)[vecs_per_block]) {
  if constexpr (Type == kv_type::f32) {
    const float* values = reinterpret_cast<const float*>(row) + b * kv_block_values;
    for (std::size_t i = 0; i < vecs_per_block; ++i) out[i] = load(values + i * width);
  } else if constexpr (Type == kv_type::f16) {
    for (std::size_t i = 0; i < vecs_per_block; ++i)
      out[i] = halves_to_vec(row + b * kv_block_values * 2, i);
  } else {
    const std::byte* quants = row + blocks * scale_bytes;
    const vec scale = set1(scale_at(row, b));
    if constexpr (Type == kv_type::q8) {
      for (std::size_t i = 0; i < vecs_per_block; ++i)
        out[i] = int8_to_vec(quants + b * kv_block_values, i);
    } else {
      nibbles_to_vecs(quants + b * kv_block_values / 2, out);
    }
    for (std::size_t i = 0; i < vecs_per_block; ++i) out[i] = mul(out[i], scale);
  }
}

// The last block of a row of f32 or f16 whose head_dim is not a multiple of 32, padded with zeros.
template <kv_type Type>
QUIRE_INLINE void load_tail(const std::byte* row, std::size_t head_dim,
                            vec (&out)[vecs_per_block]) {
  alignas(64) std::byte copy[kv_block_values * 4] = {};
  const std::size_t whole = head_dim / kv_block_values * kv_block_values;
  __builtin_memcpy(copy, row + whole * value_bytes<Type>, (head_dim - whole) * value_bytes<Type>);
  load_block<Type>(copy, 1, 0, out);
}

// Whether the last block of a row cannot be loaded whole.
template <kv_type Type>
QUIRE_INLINE bool has_tail(std::size_t head_dim) {
  return (Type == kv_type::f32 || Type == kv_type::f16) && head_dim % kv_block_values != 0;
}

template <kv_type Type>
void decode(const std::byte* row, std::size_t head_dim, float* values) noexcept {
  const std::size_t blocks = blocks_of(head_dim);
  const std::size_t whole = head_dim / kv_block_values;
  vec v[vecs_per_block];
  for (std::size_t b = 0; b < whole; ++b) {
    load_block<Type>(row, blocks, b, v);
    for (std::size_t i = 0; i < vecs_per_block; ++i)
      store(values + b * kv_block_values + i * width, v[i]);
  }
  if (whole == blocks) return;
  if constexpr (Type == kv_type::f32 || Type == kv_type::f16)
    load_tail<Type>(row, head_dim, v);
  else
    load_block<Type>(row, blocks, whole, v);
  alignas(64) float last[kv_block_values];
  for (std::size_t i = 0; i < vecs_per_block; ++i) store(last + i * width, v[i]);
  __builtin_memcpy(values + whole * kv_block_values, last,
                   (head_dim - whole * kv_block_values) * sizeof(float));
}

// Encodes 32 values; scale and quants are where the block's belong in the row.
template <kv_type Type>
QUIRE_INLINE void encode_quants(const float* values, std::byte* scale, std::byte* quants) {
  constexpr float levels = Type == kv_type::q8 ? 127.0f : 7.0f;
  vec v[vecs_per_block];
  vec largest = zero();
  for (std::size_t i = 0; i < vecs_per_block; ++i) {
    v[i] = load(values + i * width);
    largest = max(largest, abs(v[i]));
  }
  const float most = reduce_max(largest);
  const bool empty = most < kv_smallest;
  const std::uint32_t bits =
      empty ? 0u : __builtin_bit_cast(std::uint32_t, most / levels) >> 15;
  const auto stored = static_cast<std::uint16_t>(bits);
  __builtin_memcpy(scale, &stored, sizeof(stored));
  const vec inverse = set1(empty ? 0.0f : 1.0f / __builtin_bit_cast(float, bits << 15));
  for (std::size_t i = 0; i < vecs_per_block; ++i)
    v[i] = min(max(mul(v[i], inverse), set1(-levels)), set1(levels));
  if constexpr (Type == kv_type::q8) {
    block_to_int8(quants, v);
  } else {
    std::byte whole[kv_block_values];
    block_to_int8(whole, v);
    const __m128i mask = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(_mm_loadu_si128(reinterpret_cast<__m128i*>(whole)), mask);
    const __m128i high = _mm_loadu_si128(reinterpret_cast<__m128i*>(whole + 16));
    const __m128i raised = _mm_slli_epi16(_mm_and_si128(high, mask), 4);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants), _mm_or_si128(low, raised));
  }
}

// Encodes 32 values of f32 or f16.
template <kv_type Type>
QUIRE_INLINE void encode_plain(const float* values, std::byte* to) {
  for (std::size_t i = 0; i < vecs_per_block; ++i) {
    const vec v = load(values + i * width);
    if constexpr (Type == kv_type::f32)
      store(reinterpret_cast<float*>(to) + i * width, v);
    else  // too large becomes the largest half; NaN stays
      vec_to_halves(to, i, min(set1(65504.0f), max(set1(-65504.0f), v)));
  }
}

template <kv_type Type>
void encode(const float* values, std::size_t head_dim, std::byte* row) noexcept {
  constexpr std::size_t block_bytes = Type == kv_type::q8 ? kv_block_values : kv_block_values / 2;
  const std::size_t blocks = blocks_of(head_dim);
  const std::size_t whole = head_dim / kv_block_values;
  const std::size_t rest = head_dim - whole * kv_block_values;
  alignas(64) float last[kv_block_values] = {};
  if (rest != 0)
    __builtin_memcpy(last, values + whole * kv_block_values, rest * sizeof(float));
  for (std::size_t b = 0; b < blocks; ++b) {
    const float* from = b < whole ? values + b * kv_block_values : last;
    if constexpr (Type == kv_type::q8 || Type == kv_type::q4) {
      encode_quants<Type>(from, row + b * scale_bytes,
                          row + blocks * scale_bytes + b * block_bytes);
    } else if (b < whole) {
      encode_plain<Type>(from, row + b * kv_block_values * value_bytes<Type>);
    } else {
      std::byte padded[kv_block_values * 4];
      encode_plain<Type>(from, padded);
      __builtin_memcpy(row + b * kv_block_values * value_bytes<Type>, padded,
                       rest * value_bytes<Type>);
    }
  }
}
