// Sources of the layouts: the decoders of the Python package `gguf` (gguf/quants.py).
#include "compute/quant_block.hpp"

#include <cstring>

#include "core/check.hpp"

namespace quire {

namespace {

std::uint8_t byte_at(const std::byte* block, std::size_t i) noexcept {
  return std::to_integer<std::uint8_t>(block[i]);
}

half half_at(const std::byte* block, std::size_t i) noexcept {
  half h;
  std::memcpy(&h, block + i, sizeof h);
  return h;
}

std::uint8_t low_bits(std::uint8_t value, unsigned shift, unsigned mask) noexcept {
  return static_cast<std::uint8_t>((value >> shift) & mask);
}

/// 16 bytes of nibbles: the low ones are codes 0..15, the high ones 16..31.
void split_nibbles32(const std::byte* from, std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    codes[i] = low_bits(byte_at(from, i), 0, 15);
    codes[i + 16] = low_bits(byte_at(from, i), 4, 15);
  }
}

/// 32 bits: bit i is the fifth bit of code i.
void add_fifth_bits(const std::byte* from, std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < 32; ++i)
    codes[i] = static_cast<std::uint8_t>(codes[i] | low_bits(byte_at(from, i / 8), i % 8, 1) << 4);
}

/// 128 bytes of nibbles in runs of 32 bytes: a run holds 32 low codes, then 32 high ones.
void split_nibbles256(const std::byte* from, std::uint8_t* codes) noexcept {
  for (std::size_t run = 0; run < 4; ++run)
    for (std::size_t i = 0; i < 32; ++i) {
      codes[64 * run + i] = low_bits(byte_at(from, 32 * run + i), 0, 15);
      codes[64 * run + 32 + i] = low_bits(byte_at(from, 32 * run + i), 4, 15);
    }
}

/// 64 bytes of pairs of bits in runs of 32 bytes: a run holds four times 32 codes.
void split_pairs256(const std::byte* from, std::uint8_t* codes) noexcept {
  for (std::size_t run = 0; run < 2; ++run)
    for (unsigned field = 0; field < 4; ++field)
      for (std::size_t i = 0; i < 32; ++i)
        codes[128 * run + 32 * field + i] = low_bits(byte_at(from, 32 * run + i), 2 * field, 3);
}

/// The 12 bytes of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima.
void split_scales_k4(const std::byte* from, quant_block& parts) noexcept {
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint8_t a = byte_at(from, i);
    const std::uint8_t b = byte_at(from, i + 4);
    const std::uint8_t c = byte_at(from, i + 8);
    parts.scales[i] = static_cast<std::int8_t>(a & 63);
    parts.mins[i] = low_bits(b, 0, 63);
    parts.scales[i + 4] = static_cast<std::int8_t>((c & 15) | ((a >> 2) & 0x30));
    parts.mins[i + 4] = static_cast<std::uint8_t>((c >> 4) | ((b >> 2) & 0x30));
  }
}

/// The 12 bytes of Q3_K: sixteen 6-bit scales, stored with 32 added.
void split_scales_k3(const std::byte* from, quant_block& parts) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    const unsigned low = low_bits(byte_at(from, i % 8), i < 8 ? 0 : 4, 15);
    const unsigned high = low_bits(byte_at(from, 8 + i % 4), 2 * static_cast<unsigned>(i / 4), 3);
    parts.scales[i] = static_cast<std::int8_t>(static_cast<int>(low | (high << 4)) - 32);
  }
}

void split_q2_k(const std::byte* block, quant_block& parts) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    parts.scales[i] = static_cast<std::int8_t>(byte_at(block, i) & 15);
    parts.mins[i] = low_bits(byte_at(block, i), 4, 15);
  }
  split_pairs256(block + 16, parts.codes.data());
  parts.d = half_at(block, 80);
  parts.m = half_at(block, 82);
}

void split_q3_k(const std::byte* block, quant_block& parts) noexcept {
  split_pairs256(block + 32, parts.codes.data());
  for (std::size_t i = 0; i < 256; ++i) {
    const unsigned third = low_bits(byte_at(block, i % 32), static_cast<unsigned>(i / 32), 1);
    parts.codes[i] = static_cast<std::uint8_t>(parts.codes[i] | (third << 2));
  }
  split_scales_k3(block + 96, parts);
  parts.d = half_at(block, 108);
}

void split_q4_k(const std::byte* block, quant_block& parts) noexcept {
  parts.d = half_at(block, 0);
  parts.m = half_at(block, 2);
  split_scales_k4(block + 4, parts);
  split_nibbles256(block + 16, parts.codes.data());
}

void split_q5_k(const std::byte* block, quant_block& parts) noexcept {
  parts.d = half_at(block, 0);
  parts.m = half_at(block, 2);
  split_scales_k4(block + 4, parts);
  split_nibbles256(block + 48, parts.codes.data());
  for (std::size_t i = 0; i < 256; ++i) {
    const unsigned fifth = low_bits(byte_at(block, 16 + i % 32), static_cast<unsigned>(i / 32), 1);
    parts.codes[i] = static_cast<std::uint8_t>(parts.codes[i] | (fifth << 4));
  }
}

void split_q6_k(const std::byte* block, quant_block& parts) noexcept {
  for (std::size_t i = 0; i < 256; ++i) {
    const std::size_t half_block = i / 128;
    const std::size_t j = i % 128;
    const unsigned low = low_bits(byte_at(block, 64 * half_block + j % 64), j < 64 ? 0 : 4, 15);
    const unsigned high = low_bits(byte_at(block, 128 + 32 * half_block + j % 32),
                                   2 * static_cast<unsigned>(j / 32), 3);
    parts.codes[i] = static_cast<std::uint8_t>(low | (high << 4));
  }
  std::memcpy(parts.scales.data(), block + 192, 16);
  parts.d = half_at(block, 208);
}

void split_iq4_xs(const std::byte* block, quant_block& parts) noexcept {
  parts.d = half_at(block, 0);
  for (std::size_t i = 0; i < 8; ++i) {
    const unsigned low = low_bits(byte_at(block, 4 + i / 2), i % 2 == 0 ? 0 : 4, 15);
    const unsigned high = low_bits(byte_at(block, 2 + i / 4), 2 * static_cast<unsigned>(i % 4), 3);
    parts.scales[i] = static_cast<std::int8_t>(static_cast<int>(low | (high << 4)) - 32);
    split_nibbles32(block + 8 + 16 * i, parts.codes.data() + 32 * i);
  }
}

}  // namespace

void split_block(tensor_type type, const std::byte* block, quant_block& parts) noexcept {
  std::uint8_t* codes = parts.codes.data();
  switch (type) {
    using enum tensor_type;
    case q4_0:
    case iq4_nl:
      parts.d = half_at(block, 0);
      return split_nibbles32(block + 2, codes);
    case q4_1:
      parts.d = half_at(block, 0);
      parts.m = half_at(block, 2);
      return split_nibbles32(block + 4, codes);
    case q5_0:
      parts.d = half_at(block, 0);
      split_nibbles32(block + 6, codes);
      return add_fifth_bits(block + 2, codes);
    case q5_1:
      parts.d = half_at(block, 0);
      parts.m = half_at(block, 2);
      split_nibbles32(block + 8, codes);
      return add_fifth_bits(block + 4, codes);
    case q8_0:
      parts.d = half_at(block, 0);
      for (std::size_t i = 0; i < 32; ++i)
        codes[i] = static_cast<std::uint8_t>(byte_at(block, 2 + i) ^ 0x80);
      return;
    case q2_k:
      return split_q2_k(block, parts);
    case q3_k:
      return split_q3_k(block, parts);
    case q4_k:
      return split_q4_k(block, parts);
    case q5_k:
      return split_q5_k(block, parts);
    case q6_k:
      return split_q6_k(block, parts);
    case iq4_xs:
      return split_iq4_xs(block, parts);
    case f32:
    case f16:
    case bf16:
      break;
  }
  QUIRE_CHECK(false, "a block was asked of a type that is not quantized");
}

void block_values(const quant_formula& formula, const quant_block& parts, std::size_t num_values,
                  float* out) noexcept {
  const float d = to_float(parts.d);
  const float m = formula.minimum ? to_float(parts.m) : 0.0f;
  const std::size_t run = formula.scale_values == 0 ? num_values : formula.scale_values;
  for (std::size_t begin = 0; begin < num_values; begin += run) {
    const bool scaled = formula.scale_values != 0;
    const float scale = scaled ? d * static_cast<float>(parts.scales[begin / run]) : d;
    const float minimum = scaled ? -(m * static_cast<float>(parts.mins[begin / run])) : m;
    for (std::size_t i = begin; i < begin + run; ++i) {
      const int level = formula.table ? iq4_levels[parts.codes[i]]
                                      : static_cast<int>(parts.codes[i]) - formula.offset;
      // Two roundings, as in the reference: this file must not be compiled with contraction to FMA.
      const float product = scale * static_cast<float>(level);
      out[i] = formula.minimum ? product + minimum : product;
    }
  }
}

}  // namespace quire
