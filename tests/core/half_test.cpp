// Expectations: IEEE 754 arithmetic, with the compiler's own _Float16 as the independent reference.
#include "core/half.hpp"

#include <bit>
#include <cmath>
#include <cstdint>

#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("every half converts to the float of the same value", "[core]") {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const half h{static_cast<std::uint16_t>(bits)};
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(h.bits));
    const float actual = to_float(h);
    if (std::isnan(expected))
      REQUIRE(std::isnan(actual));
    else
      REQUIRE(std::bit_cast<std::uint32_t>(actual) == std::bit_cast<std::uint32_t>(expected));
  }
}

TEST_CASE("floats round to the nearest half, ties to even", "[core]") {
  for (std::uint64_t step = 0; step <= 0xffffffffull; step += 65521) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(step));
    const auto expected = std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
    if (std::isnan(value))
      REQUIRE(std::isnan(to_float(to_half(value))));
    else
      REQUIRE(to_half(value).bits == expected);
  }
  REQUIRE(to_half(0x1p-25f).bits == 0);         // the tie below the smallest subnormal
  REQUIRE(to_half(0x1.8p-24f).bits == 2);       // a tie between two subnormals
  REQUIRE(to_half(65519.996f).bits == 0x7bff);  // just under the tie to infinity
  REQUIRE(to_half(65520.0f).bits == 0x7c00);
}

TEST_CASE("bfloat16 keeps the upper half and rounds to even", "[core]") {
  REQUIRE(to_float(bfloat16{0x3f80}) == 1.0f);
  REQUIRE(to_bfloat16(1.0f + 0x1p-8f).bits == 0x3f80);
  REQUIRE(to_bfloat16(1.0f + 0x1.8p-7f).bits == 0x3f82);
  REQUIRE(std::isnan(to_float(to_bfloat16(NAN))));
}
