// Expectations: dequantize_row, itself tested against the gguf package.
#include "compute/packed_matrix.hpp"

#include <cstring>
#include <vector>

#include "compute/dequantize.hpp"
#include "compute/packed_format.hpp"
#include "tests/compute/random_blocks.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("every row of a packed matrix unpacks to what the file's row decodes to", "[compute]") {
  arena threads(2);
  const compute_context context{runnable_kernels().front(), &threads};
  for (const auto& traits : tensor_types())
    for (const std::size_t rows : {1u, 15u, 16u, 17u, 70u}) {
      const std::size_t cols = traits.block_values == 1 ? 67 : 3 * traits.block_values;
      const std::size_t row_bytes = cols / traits.block_values * traits.block_bytes;
      const auto blocks = splitmix_bytes(rows, rows * row_bytes);
      const auto matrix = packed_matrix::pack(context, traits.type, blocks, rows, cols);
      REQUIRE(matrix);
      REQUIRE(reinterpret_cast<std::uintptr_t>(matrix->data()) % 64 == 0);
      std::vector<float> expected(cols);
      std::vector<float> actual(cols);
      for (std::size_t row = 0; row < rows; ++row) {
        REQUIRE(dequantize_row(traits.type, std::span(blocks).subspan(row * row_bytes, row_bytes),
                               expected));
        matrix->unpack_row(row, actual);
        INFO(traits.name << ", row " << row << " of " << rows);
        REQUIRE(std::memcmp(actual.data(), expected.data(), cols * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("packed weights stay within 1.15 times the file", "[compute]") {
  for (const auto& traits : tensor_types()) {
    const std::size_t cols = 2048;
    const std::size_t file = 16 * cols / traits.block_values * traits.block_bytes;
    INFO(traits.name);
    REQUIRE(static_cast<double>(panel_layout_of(traits.type, cols).panel_bytes) <=
            1.15 * static_cast<double>(file));
  }
}

TEST_CASE("a matrix whose bytes do not match its shape is refused", "[compute]") {
  arena threads(1);
  const compute_context context{runnable_kernels().front(), &threads};
  const std::vector<std::byte> blocks(18 * 4);
  const auto pack = [&](tensor_type type, std::size_t rows, std::size_t cols) {
    return packed_matrix::pack(context, type, blocks, rows, cols);
  };
  REQUIRE(pack(tensor_type::q4_0, 2, 64));
  REQUIRE(pack(tensor_type::q4_0, 3, 64).error().code == errc::invalid_argument);
  REQUIRE(pack(tensor_type::q4_0, 4, 33).error().code == errc::invalid_argument);
  REQUIRE(pack(tensor_type::q4_0, 0, 64).error().code == errc::invalid_argument);
  REQUIRE(pack(tensor_type::q4_0, 2, 0).error().code == errc::invalid_argument);
  REQUIRE(pack(static_cast<tensor_type>(9), 2, 64).error().code == errc::unsupported);
}
