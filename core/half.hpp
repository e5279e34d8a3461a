// IEEE half and bfloat16 as bit patterns, with conversions that are exact or round to nearest even.
// Bulk conversion belongs to compute/; these are for headers of blocks and for oracles.
#pragma once

#include <bit>
#include <cstdint>

namespace quire {

/// An IEEE 754 binary16 as it lies in files and pages.
struct half {
  std::uint16_t bits = 0;
};
static_assert(sizeof(half) == 2);

/// The upper 16 bits of an IEEE 754 binary32.
struct bfloat16 {
  std::uint16_t bits = 0;
};
static_assert(sizeof(bfloat16) == 2);

/// Returns the value of a half; exact for every input, subnormals, infinities and NaN included.
constexpr float to_float(half h) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (h.bits >> 10) & 0x1fu;
  std::uint32_t mantissa = h.bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  if (mantissa == 0) return std::bit_cast<float>(sign);
  std::uint32_t shift = 0;
  while ((mantissa & 0x400u) == 0) {
    mantissa <<= 1;
    ++shift;
  }
  return std::bit_cast<float>(sign | ((113u - shift) << 23) | ((mantissa & 0x3ffu) << 13));
}

/// Returns the nearest half, ties to even; overflow gives infinity, NaN stays NaN.
constexpr half to_half(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x47800000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // below the smallest normal half: fixed point at 2^-24
    if (magnitude < 0x33000000u) return {sign};
    const std::uint32_t exponent = magnitude >> 23;
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126u - exponent;
    const std::uint32_t kept = mantissa >> shift;
    const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
    const std::uint32_t middle = 1u << (shift - 1u);
    const std::uint32_t up = (rest > middle || (rest == middle && (kept & 1u))) ? 1u : 0u;
    return {static_cast<std::uint16_t>(sign | (kept + up))};
  }
  const std::uint32_t rebased = magnitude - (112u << 23);
  const std::uint32_t up =
      ((rebased & 0x1fffu) > 0x1000u || ((rebased & 0x1fffu) == 0x1000u && (rebased & 0x2000u)))
          ? 1u
          : 0u;
  return {static_cast<std::uint16_t>(sign | ((rebased >> 13) + up))};
}

/// Returns the value of a bfloat16, exactly.
constexpr float to_float(bfloat16 b) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b.bits) << 16);
}

/// Returns the nearest bfloat16, ties to even; NaN stays NaN.
constexpr bfloat16 to_bfloat16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace quire
