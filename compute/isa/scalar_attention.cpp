// The oracle of the attention kernels, and of the row formats of kv_layout.hpp.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "compute/attention_kernels.hpp"
#include "core/half.hpp"

namespace quire {
namespace {

constexpr float largest_half = 65504.0f;
constexpr std::size_t scale_bytes = 2;

std::size_t blocks_of(std::size_t head_dim) noexcept {
  return padded_dim(head_dim) / kv_block_values;
}

// The nearest representable scale that is not above `value`.
std::uint16_t to_scale(float value) noexcept {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 15);
}

float from_scale(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 15);
}

float scale_at(const std::byte* row, std::size_t block) noexcept {
  std::uint16_t bits = 0;
  std::memcpy(&bits, row + block * scale_bytes, sizeof(bits));
  return from_scale(bits);
}

// Stores the scale of a block and returns what to multiply its values by; 0 for a block of zeros.
float begin_block(const float* values, std::size_t n, float levels, std::byte* scale) noexcept {
  float largest = 0.0f;
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(values[i]));
  const bool empty = largest < kv_smallest;
  const std::uint16_t bits = empty ? std::uint16_t{0} : to_scale(largest / levels);
  std::memcpy(scale, &bits, sizeof(bits));
  return empty ? 0.0f : 1.0f / from_scale(bits);
}

// Rounds to nearest, ties to even, within [-levels, levels]; NaN gives -levels.
int quantize(float value, float levels) noexcept {
  const float low = value > -levels ? value : -levels;
  return static_cast<int>(std::nearbyint(low < levels ? low : levels));
}

void encode_f32(const float* values, std::size_t head_dim, std::byte* row) noexcept {
  std::memcpy(row, values, head_dim * sizeof(float));
}

void encode_f16(const float* values, std::size_t head_dim, std::byte* row) noexcept {
  for (std::size_t i = 0; i < head_dim; ++i) {
    float value = values[i];
    if (value > largest_half) value = largest_half;
    if (value < -largest_half) value = -largest_half;
    const half h = to_half(value);
    std::memcpy(row + i * sizeof(h), &h, sizeof(h));
  }
}

void encode_q8(const float* values, std::size_t head_dim, std::byte* row) noexcept {
  std::byte* quants = row + blocks_of(head_dim) * scale_bytes;
  for (std::size_t b = 0; b < blocks_of(head_dim); ++b) {
    const float* block = values + b * kv_block_values;
    const std::size_t n = std::min(kv_block_values, head_dim - b * kv_block_values);
    const float inverse = begin_block(block, n, 127.0f, row + b * scale_bytes);
    for (std::size_t i = 0; i < kv_block_values; ++i) {
      const int q = i < n ? quantize(block[i] * inverse, 127.0f) : 0;
      quants[b * kv_block_values + i] = static_cast<std::byte>(q);
    }
  }
}

void encode_q4(const float* values, std::size_t head_dim, std::byte* row) noexcept {
  constexpr std::size_t half_block = kv_block_values / 2;
  std::byte* quants = row + blocks_of(head_dim) * scale_bytes;
  for (std::size_t b = 0; b < blocks_of(head_dim); ++b) {
    const float* block = values + b * kv_block_values;
    const std::size_t n = std::min(kv_block_values, head_dim - b * kv_block_values);
    const float inverse = begin_block(block, n, 7.0f, row + b * scale_bytes);
    const auto nibble = [&](std::size_t i) {
      return (i < n ? quantize(block[i] * inverse, 7.0f) : 0) & 15;
    };
    for (std::size_t i = 0; i < half_block; ++i)
      quants[b * half_block + i] = static_cast<std::byte>(nibble(i) | nibble(i + half_block) << 4);
  }
}

// Decodes the values of one block, fewer at the end of a row, and returns their number.
template <kv_type Type>
std::size_t decode_block(const std::byte* row, std::size_t head_dim, std::size_t block,
                         float* values) noexcept {
  constexpr std::size_t half_block = kv_block_values / 2;
  const std::size_t first = block * kv_block_values;
  const std::size_t n = std::min(kv_block_values, head_dim - first);
  const std::byte* quants = row + blocks_of(head_dim) * scale_bytes;
  for (std::size_t i = 0; i < n; ++i) {
    if constexpr (Type == kv_type::f32) {
      std::memcpy(values + i, row + (first + i) * sizeof(float), sizeof(float));
    } else if constexpr (Type == kv_type::f16) {
      half h;
      std::memcpy(&h, row + (first + i) * sizeof(h), sizeof(h));
      values[i] = to_float(h);
    } else if constexpr (Type == kv_type::q8) {
      values[i] =
          scale_at(row, block) * static_cast<float>(static_cast<std::int8_t>(quants[first + i]));
    } else {
      const auto byte = static_cast<unsigned>(quants[block * half_block + i % half_block]);
      const int nibble = static_cast<int>(i < half_block ? byte & 15u : byte >> 4);
      values[i] = scale_at(row, block) * static_cast<float>(nibble >= 8 ? nibble - 16 : nibble);
    }
  }
  return n;
}

template <kv_type Type>
void decode(const std::byte* row, std::size_t head_dim, float* values) noexcept {
  for (std::size_t b = 0; b < blocks_of(head_dim); ++b)
    decode_block<Type>(row, head_dim, b, values + b * kv_block_values);
}

const std::byte* row_at(const paged_rows& rows, std::size_t position, std::size_t offset,
                        std::size_t row_bytes) noexcept {
  const std::size_t page = to_index(rows.table[position / rows.page_tokens]);
  return rows.pages + page * rows.page_bytes + offset + position % rows.page_tokens * row_bytes;
}

template <kv_type Type>
void scores(const paged_rows& rows, std::size_t begin, std::size_t end, const float* q,
            std::size_t num_queries, float* out, std::size_t stride,
            const row_fetch* /*fetch*/) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  float key[kv_block_values];
  for (std::size_t p = begin; p < end; ++p) {
    const std::byte* row = row_at(rows, p, rows.offset_k, rows.row_bytes_k);
    for (std::size_t g = 0; g < num_queries; ++g) out[g * stride + p - begin] = 0.0f;
    for (std::size_t b = 0; b < blocks_of(rows.head_dim); ++b) {
      const std::size_t n = decode_block<Type>(row, rows.head_dim, b, key);
      for (std::size_t g = 0; g < num_queries; ++g)
        for (std::size_t i = 0; i < n; ++i)
          out[g * stride + p - begin] += q[g * dim + b * kv_block_values + i] * key[i];
    }
  }
}

template <kv_type Type>
void weigh(const paged_rows& rows, std::size_t begin, std::size_t end, const float* weights,
           std::size_t stride, std::size_t num_queries, float* out,
           const row_fetch* /*fetch*/) noexcept {
  const std::size_t dim = padded_dim(rows.head_dim);
  float value[kv_block_values];
  std::fill_n(out, num_queries * dim, 0.0f);
  for (std::size_t p = begin; p < end; ++p) {
    const std::byte* row = row_at(rows, p, rows.offset_v, rows.row_bytes_v);
    for (std::size_t b = 0; b < blocks_of(rows.head_dim); ++b) {
      const std::size_t n = decode_block<Type>(row, rows.head_dim, b, value);
      for (std::size_t g = 0; g < num_queries; ++g)
        for (std::size_t i = 0; i < n; ++i)
          out[g * dim + b * kv_block_values + i] += weights[g * stride + p - begin] * value[i];
    }
  }
}

float softmax(float* s, std::size_t n, float& max) noexcept {
  max = *std::max_element(s, s + n);
  float sum = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    s[i] = std::exp2(s[i] - max);
    sum += s[i];
  }
  return sum;
}

void transpose(const float* in, std::size_t in_stride, std::size_t dim, float* out,
               std::size_t out_stride) noexcept {
  for (std::size_t d = 0; d < dim; ++d)
    for (std::size_t r = 0; r < transpose_rows; ++r)
      out[d * out_stride + r] = in[r * in_stride + d];
}

void multiply(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
              std::size_t num_rows, std::size_t depth, std::size_t cols, float* c,
              std::size_t c_stride, bool add) noexcept {
  for (std::size_t r = 0; r < num_rows; ++r) {
    float* row = c + r * c_stride;
    if (!add) std::fill_n(row, cols, 0.0f);
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t j = 0; j < cols; ++j) row[j] += a[r * a_stride + k] * b[k * b_stride + j];
  }
}

void softmax_rows(float* s, std::size_t stride, std::size_t num_rows, std::size_t n,
                  const std::uint32_t* low, const std::uint32_t* high, float* max, float* sum,
                  float* factors) noexcept {
  for (std::size_t r = 0; r < num_rows; ++r, s += stride) {
    factors[r] = 1.0f;
    if (low[r] >= high[r]) {
      std::fill_n(s, n, 0.0f);
      continue;
    }
    const float old = max[r];
    max[r] = std::max(old, *std::max_element(s + low[r], s + high[r]));
    factors[r] = std::exp2(old - max[r]);
    float added = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
      s[i] = i >= low[r] && i < high[r] ? std::exp2(s[i] - max[r]) : 0.0f;
      added += s[i];
    }
    sum[r] = sum[r] * factors[r] + added;
  }
}

void scale(float* x, std::size_t n, float factor) noexcept {
  for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace

const attention_kernels scalar_attention{
    .encode = {encode_f32, encode_f16, encode_q8, encode_q4},
    .decode = {decode<kv_type::f32>, decode<kv_type::f16>, decode<kv_type::q8>,
               decode<kv_type::q4>},
    .scores = {scores<kv_type::f32>, scores<kv_type::f16>, scores<kv_type::q8>,
               scores<kv_type::q4>},
    .softmax = softmax,
    .weigh = {weigh<kv_type::f32>, weigh<kv_type::f16>, weigh<kv_type::q8>, weigh<kv_type::q4>},
    .transpose = transpose,
    .multiply = multiply,
    .softmax_rows = softmax_rows,
    .scale = scale,
};

}  // namespace quire
