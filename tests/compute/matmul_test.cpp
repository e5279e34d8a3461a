// Expectations: arithmetic in double over what dequantize_row decodes, for the scalar oracle; the
// scalar oracle itself for the other ISAs, which compute the same integer sums and differ in
// rounding only.
#include "compute/ops/matmul.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <mutex>
#include <set>
#include <vector>

#include "compute/dequantize.hpp"
#include "compute/kernel_table.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"
#include "tests/compute/matmul_sample.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using namespace quire::test;

TEST_CASE("the scalar product is the exact one up to the rounding of activations", "[isa]") {
  arena threads(1);
  const compute_context context{scalar_kernels(), &threads};
  for (const auto& traits : tensor_types()) {
    const auto m = random_matrix(traits, 37, columns_for(traits, 5), 0.1f, 7);
    const std::size_t num_rows = 5;
    const auto x = random_rows(num_rows * m.cols, 2.0f, 8);
    const auto actual = product(context, pack(m), x, num_rows);
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
            (is_float(traits.type) ? 0.0 : weights * (1.0 / 127.0) * 1.001) +
            rounding(traits.type, m.cols) * sum_of_magnitudes(m, x.data() + r * m.cols, n);
        INFO(traits.name << " row " << r << " output " << n);
        REQUIRE(std::fabs(static_cast<double>(actual[r * m.rows + n]) - sum) <= bound);
        worst =
            std::max(worst, std::fabs(static_cast<double>(actual[r * m.rows + n]) - sum) / bound);
      }
    CHECK(worst > 0.0);  // the bound means something: the errors are not all zero
  }
}

TEST_CASE("every ISA agrees with scalar for every format, shape and row count", "[isa]") {
  arena threads(2);
  for (const kernel_table* table : compiled_kernels())
    if (!table->runnable())
      std::cout << "not run on this machine: " << table->name << " (" << table->missing() << ")\n";
  for (const auto& traits : tensor_types())
    for (const std::size_t outputs : {1u, 17u, 80u}) {
      const auto m = random_matrix(traits, outputs, columns_for(traits, 3), 0.05f, outputs);
      const auto packed = pack(m);
      for (std::size_t num_rows = 1; num_rows <= 70; num_rows += outputs == 17 ? 1 : 9) {
        const auto x = random_rows(num_rows * m.cols, 3.0f, num_rows);
        const auto expected = product({scalar_kernels(), &threads}, packed, x, num_rows);
        for (const kernel_table* table : vector_kernels()) {
          const auto actual = product({table, &threads, true}, packed, x, num_rows);
          INFO(table->name);
          require_close(actual, expected, m, x, num_rows, rounding(traits.type, m.cols));
        }
      }
    }
}

TEST_CASE("every ISA agrees with scalar on zeros, tiny, huge and mixed activations", "[isa]") {
  arena threads(1);
  for (const auto& traits : tensor_types())
    for (const float weight_magnitude : {1e-4f, 1.0f, 500.0f, half_max})
      for (const float magnitude : {0.0f, 1e-38f, 1e-30f, 1e-3f, 1e20f}) {
        const auto m = random_matrix(traits, 19, columns_for(traits, 2), weight_magnitude, 3);
        const auto packed = pack(m);
        for (const std::size_t num_rows : {3u, 7u, 16u}) {
          auto x = random_rows(num_rows * m.cols, magnitude, 4);
          for (std::size_t k = 0; k < m.cols; k += 5) x[k] = 0.0f;  // row 0: sparse
          for (std::size_t k = 0; k < m.cols; ++k)                  // row 1: alternating signs
            x[m.cols + k] = k % 2 == 0 ? magnitude : -magnitude;
          x[2 * m.cols + 1] *= 1000.0f;  // row 2: an outlier
          const auto expected = product({scalar_kernels(), &threads}, packed, x, num_rows);
          for (const kernel_table* table : vector_kernels()) {
            const auto actual = product({table, &threads, true}, packed, x, num_rows);
            INFO(table->name << ", weights " << weight_magnitude << ", activations " << magnitude);
            require_close(actual, expected, m, x, num_rows, rounding(traits.type, m.cols));
          }
        }
      }
}

TEST_CASE("extreme codes do not saturate in any ISA", "[isa]") {
  arena threads(1);
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
      decode_blocks(m);
      const auto packed = pack(m);
      for (const std::size_t num_rows : {2u, 16u}) {
        std::vector<float> x(num_rows * m.cols, 1.0f);
        for (std::size_t k = 0; k < m.cols; ++k) x[m.cols + k] = k % 2 == 0 ? -1.0f : -0.99f;
        const auto expected = product({scalar_kernels(), &threads}, packed, x, num_rows);
        for (const kernel_table* table : vector_kernels()) {
          const auto actual = product({table, &threads, true}, packed, x, num_rows);
          INFO(table->name << " " << traits.name << " filled with " << fill);
          require_close(actual, expected, m, x, num_rows, rounding(traits.type, m.cols));
        }
      }
    }
  }
}

TEST_CASE("a row's product does not depend on the other rows or on the threads", "[isa]") {
  arena one(1);
  arena two(2);
  auto tables = vector_kernels();
  tables.push_back(scalar_kernels());
  for (const kernel_table* table : tables)
    for (const auto& traits : tensor_types()) {
      const auto m = random_matrix(traits, 83, columns_for(traits, 2), 0.1f, 11);
      const auto packed = pack(m);
      const std::size_t num_rows = 37;
      const auto x = random_rows(num_rows * m.cols, 1.0f, 12);
      const auto together = product({table, &two, true}, packed, x, num_rows);
      for (const std::size_t row : {0u, 5u, 15u, 16u, 31u, 36u}) {
        const std::vector<float> alone_x(
            x.begin() + static_cast<std::ptrdiff_t>(row * m.cols),
            x.begin() + static_cast<std::ptrdiff_t>((row + 1) * m.cols));
        const auto alone = product({table, &one, true}, packed, alone_x, 1);
        INFO(table->name << " " << traits.name << " row " << row);
        REQUIRE(std::memcmp(alone.data(), together.data() + row * m.rows, m.rows * sizeof(float)) ==
                0);
      }
    }
}

TEST_CASE("a batch-invariant product has the same bits in any number of rows", "[isa]") {
  arena threads(2);
  auto tables = vector_kernels();
  tables.push_back(scalar_kernels());
  for (const kernel_table* table : tables)
    for (const auto& traits : tensor_types()) {
      const compute_context context{table, &threads, true};
      const auto m = random_matrix(traits, 35, columns_for(traits, 1), 0.1f, 31);
      const auto packed = pack(m);
      const auto x = random_rows(70 * m.cols, 1.0f, 32);
      std::vector<float> alone;
      for (std::size_t row = 0; row < 70; ++row) {
        const std::vector<float> one(x.begin() + static_cast<std::ptrdiff_t>(row * m.cols),
                                     x.begin() + static_cast<std::ptrdiff_t>((row + 1) * m.cols));
        for (const float value : product(context, packed, one, 1)) alone.push_back(value);
      }
      for (std::size_t num_rows = 2; num_rows <= 70; ++num_rows) {
        INFO(table->name << " " << traits.name << ", " << num_rows << " rows");
        const auto together = product(context, packed, x, num_rows);
        REQUIRE(std::memcmp(alone.data(), together.data(), together.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("long products have the bits of short ones", "[isa]") {
  arena threads(2);
  for (const kernel_table* base : vector_kernels())
    for (const auto& traits : tensor_types()) {
      if (base->matmul->long_product[static_cast<std::size_t>(traits.type)] == nullptr) continue;
      matmul_kernels kernels = *base->matmul;
      kernels.long_values = 0;
      kernel_table table = *base;
      table.matmul = &kernels;
      // More than two slices of 1024 inputs, more than 16 panels, more than 8 groups.
      const std::size_t cols = traits.block_values == 32 ? 2080 : 2304;
      const auto m = random_matrix(traits, 291, cols, 0.1f, 41);
      const auto packed = pack(m);
      for (const std::size_t num_rows : {16u, 33u, 150u}) {
        const auto x = random_rows(num_rows * cols, 1.0f, 42);
        const auto expected = product({base, &threads, true}, packed, x, num_rows);
        const auto actual = product({&table, &threads, true}, packed, x, num_rows);
        INFO(base->name << " " << traits.name << ", " << num_rows << " rows");
        REQUIRE(std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("grouped targets store or add, each with its own stride", "[isa]") {
  arena threads(2);
  const auto a = random_matrix(traits_of(tensor_type::q4_1), 40, 64, 0.1f, 21);
  const auto b = random_matrix(traits_of(tensor_type::bf16), 25, 64, 0.1f, 22);
  const auto packed_a = pack(a);
  const auto packed_b = pack(b);
  for (const kernel_table* table : vector_kernels())
    for (const std::size_t num_rows : {9u, 16u, 45u}) {  // few, a whole group, and wide products
      const compute_context context{table, &threads};
      const auto x = random_rows(num_rows * 64, 1.0f, 23);
      const auto expected_a = product(context, packed_a, x, num_rows);
      const auto expected_b = product(context, packed_b, x, num_rows);
      activations prepared;
      prepared.prepare(context, x.data(), num_rows, 64, 64);
      std::vector<float> out(num_rows * 70, 0.5f);
      const matmul_target targets[] = {{&packed_a, out.data(), 70, false},
                                       {&packed_b, out.data() + 41, 70, true}};
      matmul(context, prepared, targets);
      INFO(table->name << ", " << num_rows << " rows");
      for (std::size_t r = 0; r < num_rows; ++r) {
        for (std::size_t n = 0; n < 40; ++n) REQUIRE(out[r * 70 + n] == expected_a[r * 40 + n]);
        REQUIRE(out[r * 70 + 40] == 0.5f);
        // A wide product begins its sums at what the output holds: the 64 additions round
        // otherwise.
        for (std::size_t n = 0; n < 25; ++n)
          REQUIRE(std::fabs(out[r * 70 + 41 + n] - (0.5f + expected_b[r * 25 + n])) <=
                  64.0f * 3.0f * std::numeric_limits<float>::epsilon());
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
          const double expected =
              static_cast<double>(x[r * cols + k]) * factor * static_cast<double>(weight[k]);
          INFO(table->name << " " << cols << " columns, row " << r << " column " << k);
          REQUIRE(std::fabs(static_cast<double>(normalized[r * cols + k]) - expected) <=
                  rounding(tensor_type::f32, cols) * std::fabs(expected));
        }
      }
    }
}

TEST_CASE("what a thread is expected to read first is where a call of a product begins", "[isa]") {
  static std::mutex mutex;
  static std::set<const std::byte*> begins;
  kernel_table watched = *runnable_kernels().front();
  matmul_kernels noted = *watched.matmul;
  noted.product[static_cast<std::size_t>(tensor_type::q8_0)] =
      [](const matmul_task& task) noexcept {
        const std::lock_guard lock(mutex);
        begins.insert(task.panels);
      };
  watched.matmul = &noted;
  const std::size_t cols = 1024;
  std::vector<packed_matrix> matrices;
  for (const std::size_t rows : {500u, 176u, 16u, 1000u})
    matrices.push_back(pack(random_matrix(traits_of(tensor_type::q8_0), rows, cols, 0.1f, rows)));
  const packed_matrix* const weights[] = {&matrices[0], &matrices[1], &matrices[2], &matrices[3]};
  const auto x = random_rows(cols, 1.0f, 1);
  std::vector<std::vector<float>> out;
  std::vector<matmul_target> targets;
  for (const packed_matrix& matrix : matrices) {
    out.emplace_back(matrix.rows());
    targets.push_back({&matrix, out.back().data(), matrix.rows(), false});
  }
  for (const std::size_t num_threads : {2u, 3u, 7u}) {
    arena threads(num_threads);
    const compute_context context{&watched, &threads};
    activations prepared;
    prepared.prepare(context, x.data(), 1, cols, cols, weights);
    begins.clear();
    matmul(context, prepared, targets);
    // 32 + 11 + 1 + 63 panels: a share is one piece unless it goes on in the next matrix.
    for (std::size_t thread = 0; thread < num_threads; ++thread) {
      const auto bytes = first_weights_of(thread, num_threads, weights);
      REQUIRE(begins.count(bytes.data()) == 1);
      const std::size_t panel_bytes = matrices[0].size_bytes() / 32;
      const std::size_t first = thread * 107 / num_threads;
      std::size_t end = (thread + 1) * 107 / num_threads;
      for (const std::size_t boundary : {44u, 43u, 32u})
        if (first < boundary) end = std::min<std::size_t>(end, boundary);
      REQUIRE(bytes.size() == (end - first) * panel_bytes);
    }
  }
  REQUIRE(first_weights_of(0, 2, {}).empty());
}

TEST_CASE("the forced ISA is the one whose kernels run", "[isa]") {
  arena threads(1);
  static int calls = 0;
  const auto m = random_matrix(traits_of(tensor_type::q8_0), 16, 32, 0.1f, 1);
  const auto packed = pack(m);
  const auto x = random_rows(32, 1.0f, 2);
  for (const kernel_table* table : runnable_kernels()) {
    const kernel_table* chosen = select_kernels(isa_name(*table)).value();
    REQUIRE(chosen->matmul == table->matmul);
    // A table that counts the calls of the product it is asked for, in front of the chosen one's
    // parts.
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
    const auto seen = product({&watched, &threads}, packed, x, 1);
    REQUIRE(calls == 1);
    REQUIRE(seen == product({chosen, &threads}, packed, x, 1));
  }
  // The tables are not one implementation under several names: some product differs.
  for (const kernel_table* a : compiled_kernels())
    for (const kernel_table* b : compiled_kernels())
      if (a != b)
        REQUIRE((a->matmul->product != b->matmul->product ||
                 a->matmul->wide_product != b->matmul->wide_product));
}
