// Expectations: the formulas of the papers in double precision.
#include "compute/ops/elementwise.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <random>
#include <vector>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

std::vector<float> normal(std::size_t n, unsigned seed, float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0.0f, deviation);
  std::vector<float> values(n);
  for (auto& v : values) v = distribution(random);
  return values;
}

double relative(float actual, double expected) {
  return std::fabs(static_cast<double>(actual) - expected) / std::max(1e-30, std::fabs(expected));
}

// Runs `test` on every ISA, on one thread and on several.
template <class Test>
void for_contexts(Test test) {
  arena one(1);
  arena many(3);
  for (const kernel_table* kernels : runnable_kernels())
    for (arena* threads : {&one, &many}) {
      INFO(isa_name(*kernels) << ", " << threads->num_threads() << " threads");
      test(compute_context{kernels, threads});
    }
}

}  // namespace

TEST_CASE("rmsnorm divides by the root of the mean square", "[compute]") {
  for_contexts([](const compute_context& context) {
    for (const std::size_t n : {1, 5, 16, 31, 64, 100, 576, 2048}) {
      const std::size_t rows = 50;
      const std::size_t stride = n + 3;
      auto x = normal(rows * stride, 1, 3.0f);
      const auto weight = normal(n, 2);
      const auto original = x;
      std::vector<float> out(rows * n);
      rmsnorm(context, x.data(), rows, stride, weight, 1e-5f, out.data(), n);
      double worst = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::size_t i = 0; i < n; ++i)
          squares += std::pow(double(original[r * stride + i]), 2);
        for (std::size_t i = 0; i < n; ++i)
          worst =
              std::max(worst, relative(out[r * n + i], double(original[r * stride + i]) /
                                                           std::sqrt(squares / double(n) + 1e-5) *
                                                           double(weight[i])));
      }
      REQUIRE(worst < 1e-6);
      rmsnorm(context, x.data(), rows, stride, weight, 1e-5f, x.data(), stride);
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t i = 0; i < n; ++i) REQUIRE(x[r * stride + i] == out[r * n + i]);
    }
  });
}

TEST_CASE("rope turns pairs as complex numbers and leaves the rest", "[compute]") {
  for_contexts([](const compute_context& context) {
    for (const auto pairs : {rope_pairs::adjacent, rope_pairs::halves})
      for (const std::size_t dim : {2, 6, 16, 40, 64, 128}) {
        const std::size_t positions = 40;
        std::vector<float> cosines(positions * dim / 2);
        std::vector<float> sines(positions * dim / 2);
        for (std::size_t p = 0; p < positions; ++p)
          for (std::size_t i = 0; i < dim / 2; ++i) {
            const double angle = double(p) * std::pow(10000.0, -2.0 * double(i) / double(dim));
            cosines[p * dim / 2 + i] = static_cast<float>(std::cos(angle));
            sines[p * dim / 2 + i] = static_cast<float>(std::sin(angle));
          }
        const std::size_t heads = 3;
        const std::size_t head_dim = dim + 5;
        const std::size_t rows = 70;
        const std::size_t stride = heads * head_dim + 2;
        auto x = normal(rows * stride, 3);
        const auto original = x;
        std::vector<std::uint32_t> at(rows);
        for (std::size_t r = 0; r < rows; ++r)
          at[r] = static_cast<std::uint32_t>(r * 7 % positions);
        rope(context, {cosines, sines, dim, pairs}, x.data(), rows, stride, heads, head_dim, at);
        double worst = 0;
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t h = 0; h < heads; ++h)
            for (std::size_t i = 0; i < dim / 2; ++i) {
              const std::size_t first =
                  r * stride + h * head_dim + (pairs == rope_pairs::adjacent ? 2 * i : i);
              const std::size_t second = first + (pairs == rope_pairs::adjacent ? 1 : dim / 2);
              const std::complex<double> turned =
                  std::complex<double>(double(original[first]), double(original[second])) *
                  std::complex<double>(double(cosines[at[r] * dim / 2 + i]),
                                       double(sines[at[r] * dim / 2 + i]));
              worst = std::max({worst, std::fabs(double(x[first]) - turned.real()),
                                std::fabs(double(x[second]) - turned.imag())});
            }
        REQUIRE(worst < 1e-6);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t h = 0; h < heads; ++h)
            for (std::size_t i = dim; i < head_dim; ++i) {
              const std::size_t rest = r * stride + h * head_dim + i;
              REQUIRE(x[rest] == original[rest]);
            }
          REQUIRE(x[r * stride + stride - 1] == original[r * stride + stride - 1]);
        }
      }
  });
}

TEST_CASE("gates multiply by silu or by gelu", "[compute]") {
  for_contexts([](const compute_context& context) {
    for (const std::size_t cols : {1, 7, 16, 1536, 9001}) {
      const std::size_t rows = 3;
      auto gate = normal(rows * cols, 4, 4.0f);
      const auto up = normal(rows * cols, 5);
      for (std::size_t i = 0; i < std::min<std::size_t>(gate.size(), 6); ++i)
        gate[i] = std::vector<float>{0.0f, -0.0f, 60.0f, -60.0f, 200.0f, -200.0f}[i];
      std::vector<float> out(rows * cols);
      double worst = 0;
      gated(context, gate_function::silu, gate.data(), up.data(), rows, cols, out.data());
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double x = double(gate[i]);
        const double expected = x / (1.0 + std::exp(-x)) * double(up[i]);
        worst = std::max(
            worst, std::fabs(double(out[i]) - expected) / std::max(1e-6, std::fabs(expected)));
      }
      REQUIRE(worst < 2e-6);
      worst = 0;
      gated(context, gate_function::gelu_tanh, gate.data(), up.data(), rows, cols, out.data());
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double x = double(gate[i]);
        const double inner = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
        const double expected = 0.5 * x * (1.0 + std::tanh(inner)) * double(up[i]);
        // Where 1 + tanh cancels, f32 keeps the absolute size of an ulp of one.
        worst = std::max(worst, std::fabs(double(out[i]) - expected) /
                                    std::max({0.1, std::fabs(x), std::fabs(expected)}));
      }
      REQUIRE(worst < 2e-6);
      auto in_place = gate;
      gated(context, gate_function::gelu_tanh, in_place.data(), up.data(), rows, cols,
            in_place.data());
      REQUIRE(in_place == out);
    }
  });
}

TEST_CASE("add adds, however many threads share the work", "[compute]") {
  for_contexts([](const compute_context& context) {
    for (const std::size_t n : {0, 1, 15, 64, 100, 300007}) {
      auto x = normal(n, 6);
      const auto y = normal(n, 7);
      auto expected = x;
      for (std::size_t i = 0; i < n; ++i) expected[i] += y[i];
      add(context, x.data(), y.data(), n);
      REQUIRE(x == expected);
    }
  });
}

TEST_CASE("the number of threads changes no value", "[compute]") {
  arena one(1);
  arena many(4);
  const std::size_t rows = 301;
  const std::size_t cols = 576;
  const auto gate = normal(rows * cols, 8, 3.0f);
  const auto weight = normal(cols, 9);
  for (const kernel_table* kernels : runnable_kernels()) {
    std::vector<std::vector<float>> results;
    for (arena* threads : {&one, &many}) {
      const compute_context context{kernels, threads};
      std::vector<float> out(rows * cols);
      rmsnorm(context, gate.data(), rows, cols, weight, 1e-6f, out.data(), cols);
      gated(context, gate_function::silu, gate.data(), out.data(), rows, cols, out.data());
      results.push_back(out);
    }
    REQUIRE(results[0] == results[1]);
  }
}
