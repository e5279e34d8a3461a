// Expectations: arithmetic in double over what dequantize_row decodes. A wide product rounds both
// operands to bfloat16, whose 8 significant bits leave a relative error of at most 2^-8 each.
#include <cmath>
#include <cstring>
#include <vector>

#include "compute/isa/tiles.hpp"
#include "compute/matmul_kernels.hpp"
#include "tests/compute/matmul_sample.hpp"

using namespace quire;
using namespace quire::test;

namespace {

/// A table whose wide products are used for every number of rows.
struct all_wide {
  explicit all_wide(const kernel_table& base) : matmul(*base.matmul), table(base) {
    matmul.wide_rows.fill(0);
    table.matmul = &matmul;
  }
  all_wide(const all_wide&) = delete;
  all_wide& operator=(const all_wide&) = delete;
  matmul_kernels matmul;
  kernel_table table;
};

}  // namespace

TEST_CASE("wide products are exact up to the rounding of operands to bfloat16", "[isa]") {
  arena threads(2);
  for (const kernel_table* base : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (!has_wide(*base, traits.type)) continue;
      const all_wide wide(*base);
      for (const std::size_t outputs : {1u, 17u, 48u}) {
        const auto m = random_matrix(traits, outputs, columns_for(traits, 1), 0.05f, outputs);
        const auto packed = pack(m);
        for (std::size_t num_rows = 1; num_rows <= 70; num_rows += outputs == 17 ? 1 : 9) {
          const auto x = random_rows(num_rows * m.cols, 3.0f, num_rows);
          const auto actual = product({&wide.table, &threads}, packed, x, num_rows);
          INFO(base->name);
          require_close(actual, exact_product(m, x, num_rows), m, x, num_rows,
                        wide_rounding(m.cols));
        }
      }
    }
}

TEST_CASE("wide products add up over all slices of long inputs", "[isa]") {
  arena threads(2);
  for (const kernel_table* base : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (!has_wide(*base, traits.type)) continue;
      const all_wide wide(*base);
      // More than two slices of 512 inputs, the last one not full.
      const std::size_t cols = traits.block_values == 1    ? 1033
                               : traits.block_values == 32 ? 1056
                                                           : 1280;
      const auto m = random_matrix(traits, 35, cols, 0.05f, 1);
      const std::size_t num_rows = 41;
      const auto x = random_rows(num_rows * cols, 3.0f, 2);
      const auto actual = product({&wide.table, &threads}, pack(m), x, num_rows);
      INFO(base->name);
      require_close(actual, exact_product(m, x, num_rows), m, x, num_rows, wide_rounding(cols));
    }
}

TEST_CASE("unit vectors read the weights, each in its place, from wide products", "[isa]") {
  arena threads(1);
  for (const kernel_table* base : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (!has_wide(*base, traits.type)) continue;
      const all_wide wide(*base);
      const auto m = random_matrix(traits, 33, columns_for(traits, 1), 0.7f, 3);
      std::vector<float> x(m.cols * m.cols);
      for (std::size_t k = 0; k < m.cols; ++k) x[k * m.cols + k] = 1.0f;
      const auto actual = product({&wide.table, &threads}, pack(m), x, m.cols);
      for (std::size_t k = 0; k < m.cols; ++k)
        for (std::size_t n = 0; n < m.rows; ++n) {
          const double w = static_cast<double>(m.values[n * m.cols + k]);
          // Rounding to bfloat16, and before that of the two terms of the weight.
          const double bound =
              0x1p-8 * std::fabs(w) + 0x1p-22 * m.magnitudes[n * m.cols + k] + 1e-37;
          INFO(base->name << " " << traits.name << " output " << n << " input " << k);
          REQUIRE(std::fabs(static_cast<double>(actual[k * m.rows + n]) - w) <= bound);
        }
    }
}

TEST_CASE("wide products of zeros, tiny, huge and alternating values stay within bounds", "[isa]") {
  arena threads(1);
  for (const kernel_table* base : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (!has_wide(*base, traits.type)) continue;
      const all_wide wide(*base);
      for (const float weight_magnitude : {1e-4f, 1.0f, half_max})
        for (const float magnitude : {0.0f, 1e-38f, 1e-30f, 1e-3f, 1e20f}) {
          const auto m = random_matrix(traits, 19, columns_for(traits, 1), weight_magnitude, 3);
          const std::size_t num_rows = 18;
          auto x = random_rows(num_rows * m.cols, magnitude, 4);
          for (std::size_t k = 0; k < m.cols; ++k)
            x[m.cols + k] = k % 2 == 0 ? magnitude : -magnitude;
          x[2 * m.cols + 1] *= 1000.0f;
          const auto actual = product({&wide.table, &threads}, pack(m), x, num_rows);
          INFO(base->name << ", weights " << weight_magnitude << ", activations " << magnitude);
          require_close(actual, exact_product(m, x, num_rows), m, x, num_rows,
                        wide_rounding(m.cols));
        }
    }
}

TEST_CASE("a wide product's rows do not depend on each other", "[isa]") {
  arena one(1);
  arena two(2);
  for (const kernel_table* base : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (!has_wide(*base, traits.type)) continue;
      const all_wide wide(*base);
      const auto m = random_matrix(traits, 83, columns_for(traits, 2), 0.1f, 11);
      const auto packed = pack(m);
      const std::size_t num_rows = 37;
      const auto x = random_rows(num_rows * m.cols, 1.0f, 12);
      const auto together = product({&wide.table, &two}, packed, x, num_rows);
      for (const std::size_t row : {0u, 15u, 16u, 36u}) {
        const std::vector<float> alone_x(
            x.begin() + static_cast<std::ptrdiff_t>(row * m.cols),
            x.begin() + static_cast<std::ptrdiff_t>((row + 1) * m.cols));
        const auto alone = product({&wide.table, &one}, packed, alone_x, 1);
        INFO(base->name << " " << traits.name << " row " << row);
        REQUIRE(std::memcmp(alone.data(), together.data() + row * m.rows, m.rows * sizeof(float)) ==
                0);
      }
    }
}

TEST_CASE("software tiles multiply as AMX does, within the configured shapes", "[isa]") {
  static const tile_config config = [] {
    tile_config c;
    c.rows = {3, 3, 2};
    c.row_bytes = {20, 8, 20};  // sums (3, 5), A (3, 2 words), B (2 words, 5)
    return c;
  }();
  software_tiles::configure(config);
  const auto bytes = splitmix_bytes(5, 64 * 5);
  const auto byte_at = [&](std::size_t at) {
    return static_cast<int>(static_cast<std::int8_t>(bytes[at]));
  };
  std::int32_t sums[3][5];
  for (auto& row : sums) std::fill(std::begin(row), std::end(row), 7);
  software_tiles::load<0>(sums, sizeof sums[0]);
  software_tiles::load<1>(bytes.data(), 8);        // A: row m at 8 m
  software_tiles::load<2>(bytes.data() + 64, 20);  // B: word row k at 20 k
  software_tiles::add_int8<0, 1, 2>();
  software_tiles::store<0>(sums, sizeof sums[0]);
  for (std::size_t m = 0; m < 3; ++m)
    for (std::size_t n = 0; n < 5; ++n) {
      int expected = 7;
      for (std::size_t i = 0; i < 8; ++i)
        expected += byte_at(8 * m + i) * byte_at(64 + 20 * (i / 4) + 4 * n + i % 4);
      REQUIRE(sums[m][n] == expected);
    }
  const float halves[] = {0.5f, -2.0f, 3.0f, 0.25f};
  std::uint16_t a[3][4];
  std::uint16_t b[2][10];
  for (std::size_t i = 0; i < 12; ++i) a[i / 4][i % 4] = to_bfloat16(halves[i % 4]).bits;
  for (std::size_t i = 0; i < 20; ++i) b[i / 10][i % 10] = to_bfloat16(static_cast<float>(i)).bits;
  float products[3][5];
  software_tiles::zero<0>();
  software_tiles::load<1>(a, sizeof a[0]);
  software_tiles::load<2>(b, sizeof b[0]);
  software_tiles::add_bf16<0, 1, 2>();
  software_tiles::store<0>(products, sizeof products[0]);
  for (std::size_t m = 0; m < 3; ++m)
    for (std::size_t n = 0; n < 5; ++n) {
      float expected = 0.0f;  // exact: few bits
      for (std::size_t i = 0; i < 4; ++i)
        expected += halves[i] * static_cast<float>(10 * (i / 2) + 2 * n + i % 2);
      REQUIRE(products[m][n] == expected);
    }
}
