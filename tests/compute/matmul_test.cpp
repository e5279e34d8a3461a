// Expectations: arithmetic in double over what dequantize_row decodes, for the scalar oracle; the scalar
// oracle itself for the other ISAs, which compute the same integer sums and differ in rounding only.
#include "compute/ops/matmul.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <vector>

#include "compute/dequantize.hpp"
#include "compute/kernel_table.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"
#include "tests/compute/random_blocks.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

constexpr float half_max = 65504.0f;

/// Overwrites the halves of a block (scales d and m) with finite values of about `magnitude`.
void set_scales(tensor_type type, std::byte* block, splitmix64& random, float magnitude) {
  const auto put = [&](std::size_t at) {
    const half h = to_half(std::clamp(magnitude * random.uniform(), -half_max, half_max));
    std::memcpy(block + at, &h, sizeof h);
  };
  switch (type) {
    using enum tensor_type;
    case q4_0:
    case q5_0:
    case q8_0:
    case iq4_nl:
    case iq4_xs: return put(0);
    case q4_1:
    case q5_1:
    case q4_k:
    case q5_k: put(0); return put(2);
    case q2_k: put(80); return put(82);
    case q3_k: return put(108);
    case q6_k: return put(208);
    case f32:
    case f16:
    case bf16: return;
  }
}

struct test_matrix {
  std::vector<std::byte> blocks;
  std::vector<float> values;  // (rows, cols)
  std::size_t rows = 0;
  std::size_t cols = 0;
};

test_matrix random_matrix(const tensor_type_traits& traits, std::size_t rows, std::size_t cols,
                          float magnitude, std::uint64_t seed) {
  test_matrix m;
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
  m.values.resize(rows * cols);
  REQUIRE(dequantize_row(traits.type, m.blocks, m.values));
  return m;
}

std::vector<float> random_rows(std::size_t count, float magnitude, std::uint64_t seed) {
  std::vector<float> x(count);
  splitmix64 random(seed);
  for (float& v : x) v = magnitude * random.uniform();
  return x;
}

std::vector<float> product(const compute_context& context, tensor_type type, const test_matrix& m,
                           const std::vector<float>& x, std::size_t num_rows) {
  const auto packed = packed_matrix::pack(context, type, m.blocks, m.rows, m.cols);
  REQUIRE(packed);
  activations prepared;
  prepared.prepare(context, x.data(), num_rows, m.cols, m.cols);
  std::vector<float> out(num_rows * m.rows, std::numeric_limits<float>::quiet_NaN());
  const matmul_target target{&*packed, out.data(), m.rows, false};
  matmul(context, prepared, {&target, 1});
  return out;
}

/// The sum over k of |x| |w| that rounding errors scale with. For quantized types a value d q + m is
/// added up as d q and m apart, and d (q - offset) as d q' with q' up to 255: hence the allowance.
double error_scale(const quant_formula& formula, const test_matrix& m, const float* x,
                   std::size_t row) {
  double sum = 0.0;
  double max_w = 0.0;
  double sum_x = 0.0;
  for (std::size_t k = 0; k < m.cols; ++k) {
    const double w = std::fabs(static_cast<double>(m.values[row * m.cols + k]));
    sum += w * std::fabs(static_cast<double>(x[k]));
    max_w = std::max(max_w, w);
    sum_x += std::fabs(static_cast<double>(x[k]));
  }
  return formula.minimum ? 8.0 * max_w * sum_x : sum;
}

/// Rounding of a sum of n products, in any order: n half-ulps of the sum of magnitudes, and a few for
/// scales and the activations' own scale.
double rounding(std::size_t terms) {
  return static_cast<double>(terms + 16) * std::numeric_limits<float>::epsilon();
}

std::vector<const kernel_table*> vector_kernels() {
  const auto all = runnable_kernels();
  return {all.begin(), all.end() - 1};
}

const kernel_table* scalar_kernels() { return runnable_kernels().back(); }

std::size_t columns_for(const tensor_type_traits& traits, std::size_t blocks) {
  return traits.block_values == 1 ? 29 * blocks : traits.block_values * blocks;
}

void require_close(const std::vector<float>& actual, const std::vector<float>& expected,
                   const tensor_type_traits& traits, const test_matrix& m,
                   const std::vector<float>& x, std::size_t num_rows, double relative) {
  for (std::size_t r = 0; r < num_rows; ++r)
    for (std::size_t n = 0; n < m.rows; ++n) {
      const double scale = error_scale(formula_of(traits.type), m, x.data() + r * m.cols, n);
      const double difference = std::fabs(static_cast<double>(actual[r * m.rows + n]) -
                                          static_cast<double>(expected[r * m.rows + n]));
      if (!(difference <= relative * scale + 1e-37)) {
        INFO(traits.name << ": row " << r << " of " << num_rows << ", output " << n << " of "
                         << m.rows << ", " << m.cols << " inputs: " << actual[r * m.rows + n]
                         << " instead of " << expected[r * m.rows + n]);
        REQUIRE(difference <= relative * scale + 1e-37);
      }
    }
  SUCCEED();
}

}  // namespace

TEST_CASE("the scalar product is the exact one up to the rounding of activations", "[isa]") {
  arena threads(1);
  const compute_context context{scalar_kernels(), &threads};
  for (const auto& traits : tensor_types()) {
    const auto m = random_matrix(traits, 37, columns_for(traits, 5), 0.1f, 7);
    const std::size_t num_rows = 5;
    const auto x = random_rows(num_rows * m.cols, 2.0f, 8);
    const auto actual = product(context, traits.type, m, x, num_rows);
    std::vector<float> expected(actual.size());
    double worst = 0.0;
    for (std::size_t r = 0; r < num_rows; ++r)
      for (std::size_t n = 0; n < m.rows; ++n) {
        double sum = 0.0;
        double weights = 0.0;
        for (std::size_t k = 0; k < m.cols; ++k) {
          const double w = static_cast<double>(m.values[n * m.cols + k]);
          sum += w * static_cast<double>(x[r * m.cols + k]);
          weights += std::fabs(w);
        }
        // A value of a block with maximum at most 2 is off by at most half of 2 / 127.
        const double bound =
            is_float(traits.type) ? rounding(m.cols) * 2.0 * weights
                                  : weights * (1.0 / 127.0) * 1.001 + rounding(m.cols) * 64.0 * weights;
        INFO(traits.name << " row " << r << " output " << n);
        REQUIRE(std::fabs(static_cast<double>(actual[r * m.rows + n]) - sum) <= bound);
        worst = std::max(worst, std::fabs(static_cast<double>(actual[r * m.rows + n]) - sum) / bound);
      }
    CHECK(worst > 0.0);  // the bound means something: the errors are not all zero
  }
}

TEST_CASE("every ISA agrees with scalar for every format, shape and row count", "[isa]") {
  arena threads(2);
  for (const kernel_table* table : compiled_kernels())
    if (!table->runnable()) std::cout << "not run on this machine: " << table->name << '\n';
  for (const kernel_table* table : vector_kernels())
    for (const auto& traits : tensor_types())
      for (const std::size_t outputs : {1u, 17u, 80u}) {
        const auto m = random_matrix(traits, outputs, columns_for(traits, 3), 0.05f, outputs);
        for (std::size_t num_rows = 1; num_rows <= 70; num_rows += num_rows < 17 ? 1 : 9) {
          const auto x = random_rows(num_rows * m.cols, 3.0f, num_rows);
          const auto expected = product({scalar_kernels(), &threads}, traits.type, m, x, num_rows);
          const auto actual = product({table, &threads}, traits.type, m, x, num_rows);
          INFO(table->name);
          require_close(actual, expected, traits, m, x, num_rows, rounding(m.cols));
        }
      }
}

TEST_CASE("every ISA agrees with scalar on zeros, tiny, huge and mixed activations", "[isa]") {
  arena threads(1);
  for (const kernel_table* table : vector_kernels())
    for (const auto& traits : tensor_types())
      for (const float weight_magnitude : {1e-4f, 1.0f, 500.0f})
        for (const float magnitude : {0.0f, 1e-38f, 1e-30f, 1e-3f, 1e20f}) {
          const auto m = random_matrix(traits, 19, columns_for(traits, 2), weight_magnitude, 3);
          const std::size_t num_rows = 7;
          auto x = random_rows(num_rows * m.cols, magnitude, 4);
          for (std::size_t k = 0; k < m.cols; k += 5) x[k] = 0.0f;         // row 0: sparse
          for (std::size_t k = 0; k < m.cols; ++k) x[m.cols + k] = -magnitude;  // row 1: constant
          x[2 * m.cols + 1] *= 1000.0f;                                    // row 2: an outlier
          const auto expected = product({scalar_kernels(), &threads}, traits.type, m, x, num_rows);
          const auto actual = product({table, &threads}, traits.type, m, x, num_rows);
          INFO(table->name << ", weights " << weight_magnitude << ", activations " << magnitude);
          require_close(actual, expected, traits, m, x, num_rows, rounding(m.cols));
        }
}

TEST_CASE("extreme codes do not saturate in any ISA", "[isa]") {
  arena threads(1);
  for (const kernel_table* table : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (is_float(traits.type)) continue;
      for (const unsigned fill : {0x00u, 0xffu, 0x80u, 0x7fu}) {
        auto m = random_matrix(traits, 16, columns_for(traits, 1), 1.0f, 5);
        splitmix64 random(6);
        for (std::size_t b = 0; b < m.rows; ++b) {
          std::byte* block = m.blocks.data() + b * traits.block_bytes;
          std::memset(block, static_cast<int>(fill), traits.block_bytes);
          set_scales(traits.type, block, random, 1.0f);
        }
        REQUIRE(dequantize_row(traits.type, m.blocks, m.values));
        std::vector<float> x(2 * m.cols, 1.0f);
        for (std::size_t k = 0; k < m.cols; ++k) x[m.cols + k] = k % 2 == 0 ? -1.0f : -0.99f;
        const auto expected = product({scalar_kernels(), &threads}, traits.type, m, x, 2);
        const auto actual = product({table, &threads}, traits.type, m, x, 2);
        INFO(table->name << " " << traits.name << " filled with " << fill);
        require_close(actual, expected, traits, m, x, 2, rounding(m.cols));
      }
    }
}

TEST_CASE("a row's product does not depend on the other rows or on the threads", "[isa]") {
  arena one(1);
  arena two(2);
  for (const kernel_table* table : runnable_kernels())
    for (const auto& traits : tensor_types()) {
      const auto m = random_matrix(traits, 83, columns_for(traits, 2), 0.1f, 11);
      const std::size_t num_rows = 37;
      const auto x = random_rows(num_rows * m.cols, 1.0f, 12);
      const auto together = product({table, &two}, traits.type, m, x, num_rows);
      for (const std::size_t row : {0u, 5u, 15u, 16u, 31u, 36u}) {
        const std::vector<float> alone_x(x.begin() + static_cast<std::ptrdiff_t>(row * m.cols),
                                         x.begin() + static_cast<std::ptrdiff_t>((row + 1) * m.cols));
        const auto alone = product({table, &one}, traits.type, m, alone_x, 1);
        INFO(table->name << " " << traits.name << " row " << row);
        REQUIRE(std::memcmp(alone.data(), together.data() + row * m.rows,
                            m.rows * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("a batch-invariant product has the same bits in any number of rows", "[isa]") {
  arena threads(2);
  for (const kernel_table* table : runnable_kernels())
    for (const auto& traits : tensor_types()) {
      const compute_context context{table, &threads, true};
      const auto m = random_matrix(traits, 35, columns_for(traits, 1), 0.1f, 31);
      const auto x = random_rows(70 * m.cols, 1.0f, 32);
      std::vector<float> alone;
      for (std::size_t row = 0; row < 70; ++row) {
        const std::vector<float> one(x.begin() + static_cast<std::ptrdiff_t>(row * m.cols),
                                     x.begin() + static_cast<std::ptrdiff_t>((row + 1) * m.cols));
        for (const float value : product(context, traits.type, m, one, 1)) alone.push_back(value);
      }
      for (std::size_t num_rows = 2; num_rows <= 70; ++num_rows) {
        INFO(table->name << " " << traits.name << ", " << num_rows << " rows");
        const auto together = product(context, traits.type, m, x, num_rows);
        REQUIRE(std::memcmp(alone.data(), together.data(), together.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("grouped targets store or add, each with its own stride", "[isa]") {
  arena threads(2);
  for (const kernel_table* table : runnable_kernels()) {
    const compute_context context{table, &threads};
    const auto& q4 = traits_of(tensor_type::q4_1);
    const auto& full = traits_of(tensor_type::f32);
    const std::size_t num_rows = 9;
    const auto a = random_matrix(q4, 40, 64, 0.1f, 21);
    const auto b = random_matrix(full, 25, 64, 0.1f, 22);
    const auto x = random_rows(num_rows * 64, 1.0f, 23);
    const auto expected_a = product(context, q4.type, a, x, num_rows);
    const auto expected_b = product(context, full.type, b, x, num_rows);
    const auto packed_a = packed_matrix::pack(context, q4.type, a.blocks, a.rows, a.cols);
    const auto packed_b = packed_matrix::pack(context, full.type, b.blocks, b.rows, b.cols);
    activations prepared;
    prepared.prepare(context, x.data(), num_rows, 64, 64);
    std::vector<float> out(num_rows * 70, 0.5f);
    const matmul_target targets[] = {{&*packed_a, out.data(), 70, false},
                                     {&*packed_b, out.data() + 41, 70, true}};
    matmul(context, prepared, targets);
    for (std::size_t r = 0; r < num_rows; ++r) {
      for (std::size_t n = 0; n < 40; ++n) REQUIRE(out[r * 70 + n] == expected_a[r * 40 + n]);
      REQUIRE(out[r * 70 + 40] == 0.5f);
      for (std::size_t n = 0; n < 25; ++n)
        REQUIRE(out[r * 70 + 41 + n] == 0.5f + expected_b[r * 25 + n]);
      for (std::size_t n = 66; n < 70; ++n) REQUIRE(out[r * 70 + n] == 0.5f);
    }
  }
}

TEST_CASE("prepare_rmsnorm prepares what RMSNorm in double precision gives", "[isa]") {
  arena threads(2);
  for (const kernel_table* table : runnable_kernels())
    for (const std::size_t cols : {32u, 576u, 600u, 1u}) {
      const compute_context context{table, &threads};
      const std::size_t num_rows = 35;
      const auto x = random_rows(num_rows * cols, 4.0f, cols);
      const auto weight = random_rows(cols, 2.0f, 99);
      std::vector<float> normalized(num_rows * cols);
      activations prepared;
      prepared.prepare_rmsnorm(context, x.data(), num_rows, cols, weight, 1e-5f, normalized.data());
      REQUIRE(prepared.f32 == normalized.data());
      for (std::size_t r = 0; r < num_rows; ++r) {
        double squares = 0.0;
        for (std::size_t k = 0; k < cols; ++k)
          squares += std::pow(static_cast<double>(x[r * cols + k]), 2);
        const double factor = 1.0 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (std::size_t k = 0; k < cols; ++k) {
          const double expected = static_cast<double>(x[r * cols + k]) * factor *
                                  static_cast<double>(weight[k]);
          INFO(table->name << " " << cols << " columns, row " << r << " column " << k);
          REQUIRE(std::fabs(static_cast<double>(normalized[r * cols + k]) - expected) <=
                  rounding(cols) * std::fabs(expected));
        }
      }
    }
}

TEST_CASE("the forced ISA is the one whose kernels run", "[isa]") {
  arena threads(1);
  static int calls = 0;
  const auto m = random_matrix(traits_of(tensor_type::q8_0), 16, 32, 0.1f, 1);
  const auto x = random_rows(32, 1.0f, 2);
  for (const kernel_table* table : runnable_kernels()) {
    const kernel_table* chosen = select_kernels(isa_name(*table)).value();
    REQUIRE(chosen->matmul == table->matmul);
    // A table that counts the calls of the product it is asked for, in front of the chosen one's parts.
    static void (*inner)(const matmul_task&) noexcept = nullptr;
    matmul_kernels counted = *chosen->matmul;
    constexpr auto at = static_cast<std::size_t>(tensor_type::q8_0);
    inner = counted.product[at];
    counted.product[at] = [](const matmul_task& task) noexcept {
      ++calls;
      inner(task);
    };
    kernel_table watched = *chosen;
    watched.matmul = &counted;
    calls = 0;
    const auto seen = product({&watched, &threads}, tensor_type::q8_0, m, x, 1);
    REQUIRE(calls == 1);
    REQUIRE(seen == product({chosen, &threads}, tensor_type::q8_0, m, x, 1));
  }
  // The tables are not one implementation under several names.
  for (const kernel_table* a : compiled_kernels())
    for (const kernel_table* b : compiled_kernels())
      if (a != b) REQUIRE(a->matmul->product != b->matmul->product);
}
