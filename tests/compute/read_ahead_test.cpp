// Expectations: the cache lines that hold a byte of the memory, counted one by one.
#include "compute/read_ahead.hpp"

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

// Nothing is read, so any address will do.
std::span<const std::byte> memory_at(std::uintptr_t address, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(address), size};
}

std::vector<std::uintptr_t> take_all(read_ahead ahead, std::size_t at_once) {
  std::vector<std::uintptr_t> lines;
  while (!ahead.empty()) {
    const std::size_t before = lines.size();
    ahead = read_ahead(ahead.word());  // as another thread would get it
    ahead.take(at_once, [&](std::uintptr_t line) { lines.push_back(line); });
    REQUIRE(lines.size() > before);
    REQUIRE(lines.size() <= before + at_once);
  }
  return lines;
}

}  // namespace

TEST_CASE("reading ahead takes the lines of the memory once each, from the front", "[compute]") {
  for (const std::uintptr_t address : {std::uintptr_t{0x10000}, std::uintptr_t{0x10001},
                                       std::uintptr_t{0x1003f}, std::uintptr_t{0x7fff'ffff'0020}})
    for (const std::size_t size : {1u, 2u, 63u, 64u, 65u, 1000u, 5000u}) {
      std::set<std::uintptr_t> expected;
      for (std::size_t i = 0; i < size; ++i)
        expected.insert((address + i) - (address + i) % read_ahead::line_bytes);
      for (const std::size_t at_once : {1u, 7u, 100u})
        REQUIRE(take_all(read_ahead(memory_at(address, size)), at_once) ==
                std::vector<std::uintptr_t>(expected.begin(), expected.end()));
    }
}

TEST_CASE("reading ahead ends after its limit", "[compute]") {
  const std::uintptr_t address = 0x7f00'0000'0000;
  const auto lines = take_all(read_ahead(memory_at(address, 100 * read_ahead::most_bytes)), 1000);
  REQUIRE(lines.size() == read_ahead::most_bytes / read_ahead::line_bytes);
  REQUIRE(lines.front() == address);
  REQUIRE(lines.back() == address + read_ahead::most_bytes - read_ahead::line_bytes);
  // An address that is not the beginning of a line costs one more.
  const auto shifted =
      take_all(read_ahead(memory_at(address + 1, 100 * read_ahead::most_bytes)), 1000);
  REQUIRE(shifted.size() == lines.size() + 1);
}

TEST_CASE("nothing to read ahead is nothing", "[compute]") {
  REQUIRE(read_ahead().empty());
  REQUIRE(read_ahead(memory_at(0x10000, 0)).empty());
  REQUIRE(take_all(read_ahead(std::span<const std::byte>{}), 10).empty());
}
