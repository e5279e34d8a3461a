// Expectations: tests/golden/compute/quants.txt, written by quants.py with the PyPI package `gguf`.
#include "compute/dequantize.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/compute/random_blocks.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

/// The input of quants.py: four constant blocks, then the splitmix64 stream of the type's number.
std::vector<std::byte> golden_input(const tensor_type_traits& traits, std::size_t num_blocks) {
  std::vector<std::byte> data;
  for (const unsigned constant : {0x00u, 0x80u, 0x7bu, 0x01u})
    data.insert(data.end(), traits.block_bytes, std::byte(constant));
  const auto rest = splitmix_bytes(static_cast<std::uint64_t>(traits.type),
                                   num_blocks * traits.block_bytes - data.size());
  data.insert(data.end(), rest.begin(), rest.end());
  return data;
}

std::uint32_t canonical_bits(float value) {
  return std::isnan(value) ? 0x7fc00000u : std::bit_cast<std::uint32_t>(value);
}

}  // namespace

TEST_CASE("every tensor type decodes bit for bit like the gguf package", "[compute]") {
  std::ifstream golden(QUIRE_SOURCE_DIR "/tests/golden/compute/quants.txt");
  std::size_t num_types = 0;
  for (std::string line; std::getline(golden, line); ++num_types) {
    std::istringstream fields(line);
    std::string name;
    std::uint32_t number = 0;
    std::size_t num_blocks = 0;
    std::uint64_t expected_hash = 0;
    fields >> name >> number >> num_blocks >> std::hex >> expected_hash;
    const auto* traits = find_tensor_type(number);
    REQUIRE(traits != nullptr);
    CHECK(traits->name == name);
    const auto blocks = golden_input(*traits, num_blocks);
    std::vector<float> values(num_blocks * traits->block_values);
    REQUIRE(dequantize_row(traits->type, blocks, values));
    INFO(name);
    for (std::size_t i = 4 * traits->block_values; i < 4 * traits->block_values + 64; ++i) {
      std::uint32_t expected = 0;
      fields >> expected;
      INFO("value " << i);
      if (i < values.size()) REQUIRE(canonical_bits(values[i]) == expected);
    }
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const float value : values)
      for (std::uint32_t bits = canonical_bits(value), i = 0; i < 4; ++i, bits >>= 8)
        hash = (hash ^ (bits & 255u)) * 0x100000001b3u;
    CHECK(hash == expected_hash);
  }
  REQUIRE(num_types == tensor_types().size());
}

TEST_CASE("a row that does not fill its blocks is refused", "[compute]") {
  std::vector<std::byte> blocks(18);
  std::vector<float> out(32);
  REQUIRE(dequantize_row(tensor_type::q4_0, blocks, out));
  REQUIRE(dequantize_row(tensor_type::q4_1, blocks, out).error().code == errc::invalid_argument);
  REQUIRE(dequantize_row(tensor_type::q4_0, blocks, std::span(out).first(31)).error().code ==
          errc::invalid_argument);
  REQUIRE(dequantize_row(static_cast<tensor_type>(4), blocks, out).error().code ==
          errc::unsupported);
}
