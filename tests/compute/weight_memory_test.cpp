#include "compute/weight_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"

namespace quire {

TEST_CASE("parts of weight memory are apart, aligned and zero, and outlive it", "[compute]") {
  const auto which = GENERATE(huge_pages::large, huge_pages::always, huge_pages::never);
  using part = std::pair<std::shared_ptr<std::byte[]>, std::size_t>;
  std::vector<part> parts;
  {
    weight_memory memory(1 << 16, which);
    // Some that share a region, one that just fills one, one larger than any.
    for (const std::size_t bytes : {1u, 64u, 65u, 40'000u, 65'536u, 5u << 20, 100u})
      parts.emplace_back(memory.take(bytes), bytes);
  }
  for (const auto& [at, bytes] : parts) {
    REQUIRE(at != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(at.get()) % 64 == 0);
    CHECK(std::all_of(at.get(), at.get() + bytes, [](std::byte b) { return b == std::byte{0}; }));
  }
  for (std::size_t i = 0; i < parts.size(); ++i)
    std::fill_n(parts[i].first.get(), parts[i].second, static_cast<std::byte>(i + 1));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [at, bytes] = parts[i];
    CHECK(std::all_of(at.get(), at.get() + bytes,
                      [&](std::byte b) { return b == static_cast<std::byte>(i + 1); }));
  }
}

TEST_CASE("weight memory that the system does not have is refused", "[compute]") {
  weight_memory memory;
  CHECK(memory.take(std::size_t{1} << 60) == nullptr);
  CHECK(memory.take(100) != nullptr);
}

}  // namespace quire
