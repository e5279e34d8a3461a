// Random weight matrices and activations for the tests of products.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "compute/kernel_table.hpp"
#include "compute/ops/matmul.hpp"
#include "compute/packed_format.hpp"
#include "tests/compute/product_bounds.hpp"
#include "tests/compute/random_blocks.hpp"
#include "tests/support/catch.hpp"

namespace quire::test {

inline test_matrix random_matrix(const tensor_type_traits& traits, std::size_t rows,
                                 std::size_t cols, float magnitude, std::uint64_t seed) {
  test_matrix m;
  m.type = traits.type;
  m.rows = rows;
  m.cols = cols;
  const std::size_t num_blocks = rows * cols / traits.block_values;
  m.blocks = splitmix_bytes(seed, num_blocks * traits.block_bytes);
  splitmix64 random(seed + 1);
  for (std::size_t b = 0; b < num_blocks; ++b) {
    std::byte* block = m.blocks.data() + b * traits.block_bytes;
    const float value = magnitude * random.uniform();
    if (traits.type == tensor_type::f32) {
      std::memcpy(block, &value, sizeof value);
    } else if (traits.type == tensor_type::f16) {
      const half h = to_half(std::clamp(value, -half_max, half_max));
      std::memcpy(block, &h, sizeof h);
    } else if (traits.type == tensor_type::bf16) {
      const bfloat16 h = to_bfloat16(value);
      std::memcpy(block, &h, sizeof h);
    } else {
      set_scales(traits.type, block, random, magnitude);
    }
  }
  decode_blocks(m);
  return m;
}

inline std::vector<float> random_rows(std::size_t count, float magnitude, std::uint64_t seed) {
  std::vector<float> x(count);
  splitmix64 random(seed);
  for (float& v : x) v = magnitude * random.uniform();
  return x;
}

inline packed_matrix pack(const test_matrix& m) {
  arena threads(1);
  auto packed =
      packed_matrix::pack({runnable_kernels().front(), &threads}, m.type, m.blocks, m.rows, m.cols);
  REQUIRE(packed);
  return std::move(*packed);
}

inline std::size_t columns_for(const tensor_type_traits& traits, std::size_t blocks) {
  return traits.block_values == 1 ? 29 * blocks : traits.block_values * blocks;
}

/// Requires that each output is within `relative` times its sum of magnitudes of what is expected.
template <class Expected>
void require_close(const std::vector<float>& actual, const std::vector<Expected>& expected,
                   const test_matrix& m, const std::vector<float>& x, std::size_t num_rows,
                   double relative) {
  if (const auto far = first_deviation(actual, expected, m, x, num_rows, relative)) {
    INFO(traits_of(m.type).name << ": row " << far->row << " of " << num_rows << ", output "
                                << far->output << " of " << m.rows << ", " << m.cols
                                << " inputs: " << far->actual << " instead of " << far->expected
                                << ", bound " << far->bound);
    REQUIRE_FALSE(far.has_value());
  }
  SUCCEED();
}

}  // namespace quire::test
