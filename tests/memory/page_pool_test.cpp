// Expectations: the layout's own arithmetic, done byte by byte.
#include "memory/page_pool.hpp"

#include <cstring>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

kv_layout layout_of(kv_type type_k, kv_type type_v) {
  return *kv_layout::make(2, 3, 40, 16, type_k, type_v);
}

void fill(std::span<std::byte> page, unsigned salt) {
  for (std::size_t i = 0; i < page.size(); ++i)
    page[i] = static_cast<std::byte>((i * 7 + i / 251 + salt) & 0xffu);
}

/// Whether byte `at` of a page belongs to a token below `tokens`.
bool is_filled(const kv_layout& layout, std::size_t at, std::uint32_t tokens) {
  for (std::uint32_t layer = 0; layer < layout.layers; ++layer)
    for (const kv_part part : {kv_part::key, kv_part::value})
      for (std::uint32_t head = 0; head < layout.kv_heads; ++head) {
        const std::size_t first = layout.rows_offset(layer, part, head);
        if (at >= first && at < first + tokens * layout.row_bytes(part)) return true;
      }
  return false;
}

}  // namespace

TEST_CASE("a new pool reads as zeros and is aligned", "[memory]") {
  const kv_layout layout = layout_of(kv_type::q8, kv_type::q4);
  page_pool pool = *page_pool::make(layout, 10);
  REQUIRE(pool.max_pages() == 10);
  REQUIRE(reinterpret_cast<std::uintptr_t>(pool.data()) % 64 == 0);
  for (std::uint32_t i = 0; i < 10; ++i) {
    const auto page = pool.page(page_id{i});
    REQUIRE(page.size() == layout.page_bytes);
    REQUIRE(page.data() == pool.data() + i * layout.page_bytes);
    REQUIRE(std::all_of(page.begin(), page.end(), [](std::byte b) { return b == std::byte{}; }));
  }
}

TEST_CASE("a pool of no pages is legal, one past the address space is refused", "[memory]") {
  const kv_layout layout = layout_of(kv_type::f16, kv_type::f16);
  page_pool empty = *page_pool::make(layout, 0);
  REQUIRE(empty.trim(0) == 0);
  kv_layout huge = layout;
  huge.page_bytes = SIZE_MAX / 4;
  REQUIRE(page_pool::make(huge, 100).error().code == errc::invalid_argument);
  REQUIRE(page_pool::make(kv_layout{}, 100).error().code == errc::invalid_argument);
  huge.page_bytes = std::size_t{1} << 61;
  REQUIRE(page_pool::make(huge, 1).error().code == errc::io_error);
}

TEST_CASE("a copy moves the filled tokens of every layer, part and head, and nothing else",
          "[memory]") {
  const auto type_v = GENERATE(kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4);
  const auto tokens = GENERATE(0u, 1u, 5u, 15u, 16u);
  const kv_layout layout = layout_of(kv_type::q8, type_v);
  page_pool pool = *page_pool::make(layout, 3);
  fill(pool.page(page_id{0}), 1);
  fill(pool.page(page_id{2}), 90);
  const std::vector<std::byte> before(pool.page(page_id{2}).begin(), pool.page(page_id{2}).end());
  const page_copy copy{page_id{0}, page_id{2}, tokens};
  pool.apply({&copy, 1});
  const auto from = pool.page(page_id{0});
  const auto to = pool.page(page_id{2});
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (is_filled(layout, i, tokens))
      wrong += to[i] != from[i];
    else if (tokens < layout.page_tokens)  // a full page is one copy, its padding included
      wrong += to[i] != before[i];
  }
  REQUIRE(wrong == 0);
}

TEST_CASE("a chain of copies is right when each page was just vacated", "[memory]") {
  const kv_layout layout = layout_of(kv_type::f16, kv_type::q8);
  page_pool pool = *page_pool::make(layout, 4);
  for (std::uint32_t i = 1; i < 4; ++i) fill(pool.page(page_id{i}), i * 50);
  const std::vector<page_copy> chain{
      {page_id{1}, page_id{0}, 16}, {page_id{2}, page_id{1}, 16}, {page_id{3}, page_id{2}, 16}};
  pool.apply(chain);
  std::vector<std::byte> expected(layout.page_bytes);
  for (std::uint32_t i = 0; i < 3; ++i) {
    fill(expected, (i + 1) * 50);
    REQUIRE(std::memcmp(pool.page(page_id{i}).data(), expected.data(), layout.page_bytes) == 0);
  }
}

TEST_CASE("trim gives the tail back and leaves the front intact", "[memory]") {
  const kv_layout layout = layout_of(kv_type::q8, kv_type::q8);  // no multiple of a system page
  page_pool pool = *page_pool::make(layout, 400);
  for (std::uint32_t i = 0; i < 400; ++i) fill(pool.page(page_id{i}), i);
  const std::size_t given_back = pool.trim(101);
  REQUIRE(given_back > 298 * layout.page_bytes);
  REQUIRE(given_back <= 299 * layout.page_bytes + 8192);
  std::vector<std::byte> expected(layout.page_bytes);
  for (std::uint32_t i = 0; i < 101; ++i) {
    fill(expected, i);
    REQUIRE(std::memcmp(pool.page(page_id{i}).data(), expected.data(), layout.page_bytes) == 0);
  }
  REQUIRE(pool.trim(101) <= 4096);  // nothing is left there but what was touched since
  std::fill(expected.begin(), expected.end(), std::byte{});
  for (std::uint32_t i = 101; i < 400; ++i)
    REQUIRE(std::memcmp(pool.page(page_id{i}).data(), expected.data(), layout.page_bytes) == 0);
  fill(pool.page(page_id{399}), 3);  // and it can be used again
}

TEST_CASE("a moved pool keeps its bytes", "[memory]") {
  const kv_layout layout = layout_of(kv_type::f32, kv_type::f32);
  page_pool pool = *page_pool::make(layout, 2);
  fill(pool.page(page_id{1}), 9);
  page_pool other = std::move(pool);
  std::vector<std::byte> expected(layout.page_bytes);
  fill(expected, 9);
  REQUIRE(std::memcmp(other.page(page_id{1}).data(), expected.data(), layout.page_bytes) == 0);
  page_pool third = *page_pool::make(layout, 1);
  third = std::move(other);
  REQUIRE(std::memcmp(third.page(page_id{1}).data(), expected.data(), layout.page_bytes) == 0);
}
