// One file block of a quantized tensor taken apart into integer codes and scales, and back to
// values.
//
// Decoding, packing and unpacking share this, so all three agree bit for bit with the reference.
// Every format is one of few formulas over unsigned codes:
//   w = d * level(code)                        Q4_0 Q5_0 Q8_0 IQ4_NL
//   w = d * code + m                           Q4_1 Q5_1
//   w = (d * scale) * level(code)              Q3_K Q6_K IQ4_XS, a scale per 16 or 32 values
//   w = (d * scale) * code - (m * min)         Q2_K Q4_K Q5_K, scale and min per 16 or 32 values
// where level is code - offset, or a table of 16 levels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "compute/tensor_type.hpp"
#include "core/half.hpp"

namespace quire {

/// The 16 levels of the IQ4 formats.
inline constexpr std::array<std::int8_t, 16> iq4_levels{-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

/// How the values of a quantized type follow from codes and scales.
struct quant_formula {
  bool table = false;       ///< level(code) = iq4_levels[code]
  std::uint8_t offset = 0;  ///< level(code) = code - offset otherwise
  bool minimum = false;     ///< has m
  std::uint8_t scale_values =
      0;                  ///< values per sub-scale: 16 or 32; 0: the block has d (and m) alone
  std::uint8_t bits = 0;  ///< bits per code
};

/// Returns the formula of a quantized type; all zero for F32, F16 and BF16.
constexpr quant_formula formula_of(tensor_type type) noexcept {
  switch (type) {
    using enum tensor_type;
    case q4_0:
      return {.offset = 8, .bits = 4};
    case q4_1:
      return {.minimum = true, .bits = 4};
    case q5_0:
      return {.offset = 16, .bits = 5};
    case q5_1:
      return {.minimum = true, .bits = 5};
    case q8_0:
      return {.offset = 128, .bits = 8};
    case q2_k:
      return {.minimum = true, .scale_values = 16, .bits = 2};
    case q3_k:
      return {.offset = 4, .scale_values = 16, .bits = 3};
    case q4_k:
      return {.minimum = true, .scale_values = 32, .bits = 4};
    case q5_k:
      return {.minimum = true, .scale_values = 32, .bits = 5};
    case q6_k:
      return {.offset = 32, .scale_values = 16, .bits = 6};
    case iq4_nl:
      return {.table = true, .bits = 4};
    case iq4_xs:
      return {.table = true, .scale_values = 32, .bits = 4};
    case f32:
    case f16:
    case bf16:
      break;
  }
  return {};
}

/// A block taken apart. `scales` and `mins` are those of the sub-blocks.
struct quant_block {
  half d;
  half m;
  std::array<std::int8_t, 16> scales{};
  std::array<std::uint8_t, 16> mins{};
  std::array<std::uint8_t, 256> codes{};
};

/// Takes one file block of a quantized type apart.
void split_block(tensor_type type, const std::byte* block, quant_block& parts) noexcept;

/// Computes the values of `num_values` codes, rounding as the reference decoder does.
void block_values(const quant_formula& formula, const quant_block& parts, std::size_t num_values,
                  float* out) noexcept;

}  // namespace quire
