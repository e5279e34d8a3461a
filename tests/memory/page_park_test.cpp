// Expectations: the bytes that went in.
#include "memory/page_park.hpp"

#include <cstring>
#include <filesystem>
#include <random>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

struct parked_pool {
  kv_layout layout = *kv_layout::make(2, 3, 40, 16, kv_type::q8, kv_type::q4);
  page_pool pool = *page_pool::make(layout, 8);
  page_park park{layout.page_bytes, {}};
  std::mt19937 random{7};

  std::vector<std::byte> fill(page_id page) {
    std::vector<std::byte> bytes(layout.page_bytes);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0xffu);
    std::memcpy(pool.page(page).data(), bytes.data(), bytes.size());
    return bytes;
  }
  bool holds(page_id page, const std::vector<std::byte>& bytes) {
    return std::memcmp(pool.page(page).data(), bytes.data(), bytes.size()) == 0;
  }
};

}  // namespace

TEST_CASE("parked pages come back bit for bit, in other places", "[memory]") {
  for (const park_place where : {park_place::memory, park_place::disk}) {
    parked_pool at;
    const auto first = at.fill(page_id{1});
    const auto second = at.fill(page_id{5});
    REQUIRE(at.park.store({park_id{1}, where, {page_id{1}, page_id{5}}}, at.pool));
    const bool in_memory = where == park_place::memory;
    CHECK(at.park.memory_bytes() == (in_memory ? 2 * at.layout.page_bytes : 0));
    CHECK(at.park.disk_bytes() == (in_memory ? 0 : 2 * at.layout.page_bytes));
    for (std::uint32_t i = 0; i < 8; ++i) at.fill(page_id{i});
    REQUIRE(at.park.restore({park_id{1}, 0, {page_id{7}, page_id{2}}}, at.pool));
    CHECK(at.holds(page_id{7}, first));
    CHECK(at.holds(page_id{2}, second));
    REQUIRE(at.park.restore({park_id{1}, 1, {page_id{0}}}, at.pool));
    CHECK(at.holds(page_id{0}, second));
    at.park.drop(park_id{1});
    CHECK(at.park.memory_bytes() + at.park.disk_bytes() == 0);
    CHECK(at.park.restore({park_id{1}, 0, {page_id{7}}}, at.pool).error().code == errc::not_found);
  }
}

TEST_CASE("places in the file are used again without touching the others", "[memory]") {
  parked_pool at;
  const auto kept = at.fill(page_id{0});
  REQUIRE(at.park.store({park_id{1}, park_place::disk, {page_id{1}, page_id{2}}}, at.pool));
  REQUIRE(at.park.store({park_id{2}, park_place::disk, {page_id{0}}}, at.pool));
  at.park.drop(park_id{1});
  const auto later = at.fill(page_id{3});
  REQUIRE(at.park.store({park_id{3}, park_place::disk, {page_id{3}, page_id{3}}}, at.pool));
  REQUIRE(at.park.restore({park_id{2}, 0, {page_id{6}}}, at.pool));
  REQUIRE(at.park.restore({park_id{3}, 1, {page_id{7}}}, at.pool));
  CHECK(at.holds(page_id{6}, kept));
  CHECK(at.holds(page_id{7}, later));
}

TEST_CASE("a directory that cannot be written names itself and the key, and keeps nothing",
          "[memory]") {
  parked_pool at;
  page_park nowhere(at.layout.page_bytes, "/nonexistent/quire");
  const auto stored = nowhere.store({park_id{1}, park_place::disk, {page_id{1}}}, at.pool);
  REQUIRE_FALSE(stored.has_value());
  CHECK(stored.error().code == errc::io_error);
  CHECK(stored.error().message.find("/nonexistent/quire") != std::string::npos);
  CHECK(stored.error().message.find("kv.park_dir") != std::string::npos);
  CHECK(nowhere.disk_bytes() == 0);
}

TEST_CASE("the file has no name that could stay behind", "[memory]") {
  const auto directory = std::filesystem::temp_directory_path() / "quire-park-test";
  std::filesystem::create_directories(directory);
  parked_pool at;
  page_park park(at.layout.page_bytes, directory);
  REQUIRE(park.store({park_id{1}, park_place::disk, {page_id{1}}}, at.pool));
  CHECK(std::filesystem::is_empty(directory));
  std::filesystem::remove_all(directory);
}
