// Expectations: sizes by arithmetic and the figures of the store's contract (one layer, 8 heads,
// 16 tokens, dim 64).
#include "compute/kv_layout.hpp"

#include <cstdint>
#include <limits>

#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("kv types are named and parsed", "[compute]") {
  for (const auto type : {kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4})
    REQUIRE(parse_kv_type(kv_type_name(type)) == type);
  REQUIRE(parse_kv_type("q8") == kv_type::q8);
  REQUIRE_FALSE(parse_kv_type("q8_0"));
  REQUIRE_FALSE(parse_kv_type(""));
}

TEST_CASE("one word or two name the types of keys and values", "[compute]") {
  using k = kv_type;
  REQUIRE(parse_kv_types("f16") == kv_types{k::f16, k::f16});
  REQUIRE(parse_kv_types("q8") == kv_types{k::q8, k::q8});
  REQUIRE(parse_kv_types("q4") == kv_types{k::q8, k::q4});
  REQUIRE(parse_kv_types("q4/q4") == kv_types{k::q4, k::q4});
  REQUIRE(parse_kv_types("f32/q4") == kv_types{k::f32, k::q4});
  for (const char* wrong : {"", "q5", "/", "q8/", "/q8", "q8/q8/q8", "q4 ", "Q4"})
    REQUIRE_FALSE(parse_kv_types(wrong));
  for (const k a : {k::f32, k::f16, k::q8, k::q4})
    for (const k b : {k::f32, k::f16, k::q8, k::q4})
      REQUIRE(parse_kv_types(kv_types_name({a, b})) == kv_types{a, b});
  REQUIRE(kv_types_name({k::q8, k::q4}) == "q4");
  REQUIRE(kv_types_name({k::q4, k::q4}) == "q4/q4");
}

TEST_CASE("a page takes what the contract says", "[compute]") {
  const auto bytes = [](kv_type type) {
    return kv_layout::make(1, 8, 64, 16, type, type).value().page_bytes;
  };
  REQUIRE(bytes(kv_type::f32) == 65536);
  REQUIRE(bytes(kv_type::f16) == 32768);
  REQUIRE(bytes(kv_type::q8) == 2 * 8 * 16 * 68);
  REQUIRE(bytes(kv_type::q4) == 2 * 8 * 16 * 36);
  const auto layout = kv_layout::make(1, 8, 64, 16, kv_type::q8, kv_type::q8).value();
  REQUIRE(layout.f32_page_bytes() == 65536);
  REQUIRE(layout.token_bytes() == 2 * 8 * 68);
}

TEST_CASE("rows of odd dimensions are padded to whole blocks only when quantized", "[compute]") {
  REQUIRE(kv_row_bytes(kv_type::f32, 40) == 160);
  REQUIRE(kv_row_bytes(kv_type::f16, 40) == 80);
  REQUIRE(kv_row_bytes(kv_type::q8, 40) == 2 * 34);
  REQUIRE(kv_row_bytes(kv_type::q4, 40) == 2 * 18);
  REQUIRE(kv_row_bytes(kv_type::q4, 1) == 18);
}

TEST_CASE("rows tile a page without gaps or overlap", "[compute]") {
  const auto layout = kv_layout::make(3, 2, 40, 16, kv_type::q8, kv_type::f16).value();
  std::size_t at = 0;
  for (std::uint32_t layer = 0; layer < 3; ++layer)
    for (const auto part : {kv_part::key, kv_part::value})
      for (std::uint32_t head = 0; head < 2; ++head) {
        REQUIRE(layout.rows_offset(layer, part, head) == at);
        at += 16 * layout.row_bytes(part);
      }
  REQUIRE(layout.page_bytes >= at);
  REQUIRE(layout.page_bytes < at + 64);
  REQUIRE(layout.page_bytes % 64 == 0);
}

TEST_CASE("zeros and overflow are refused", "[compute]") {
  const auto code = [](std::uint32_t layers, std::uint32_t heads, std::uint32_t dim,
                       std::uint32_t tokens) {
    const auto made = kv_layout::make(layers, heads, dim, tokens, kv_type::f32, kv_type::f32);
    return made ? errc::internal : made.error().code;
  };
  REQUIRE(code(0, 1, 1, 1) == errc::invalid_argument);
  REQUIRE(code(1, 0, 1, 1) == errc::invalid_argument);
  REQUIRE(code(1, 1, 0, 1) == errc::invalid_argument);
  REQUIRE(code(1, 1, 1, 0) == errc::invalid_argument);
  constexpr auto most = std::numeric_limits<std::uint32_t>::max();
  REQUIRE(code(most, most, 1, 1) == errc::invalid_argument);
  REQUIRE(code(most, 1, most, 1) == errc::invalid_argument);
  REQUIRE(kv_layout::make(1, 1, 1, 1, kv_type::q4, kv_type::q4).value().page_bytes == 64);
}
