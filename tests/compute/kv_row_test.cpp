// Expectations: the error bounds of the store's contract by arithmetic, formats read by their
// definition (paged_sample.hpp), the compiler's _Float16 for f16, and the same bytes from every
// ISA.
#include "compute/kv_row.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/compute/paged_sample.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

std::vector<std::byte> encoded(const kernel_table& kernels, kv_type type,
                               const std::vector<float>& values) {
  // A guard of one byte shows writes past the row.
  std::vector<std::byte> row(kv_row_bytes(type, values.size()) + 1, std::byte{0xa5});
  encode_kv_row(kernels, type, values, row.data());
  REQUIRE(row.back() == std::byte{0xa5});
  row.pop_back();
  return row;
}

std::vector<float> decoded(const kernel_table& kernels, kv_type type,
                           const std::vector<std::byte>& row, std::size_t n) {
  std::vector<float> values(n + 1, -77.0f);
  decode_kv_row(kernels, type, row.data(), std::span(values).first(n));
  REQUIRE(values.back() == -77.0f);
  values.pop_back();
  return values;
}

// Rows of many kinds: random at every magnitude, constant, mixed, with outliers, zeros.
std::vector<std::vector<float>> samples(std::size_t dim) {
  std::mt19937 random(static_cast<unsigned>(dim));
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<std::vector<float>> rows;
  const float magnitudes[] = {1e-9f, 2e-8f, 1e-6f, 1e-4f, 0.03f, 1.0f,  50.0f,
                              3e3f,  6e4f,  9e6f,  1e12f, 1e25f, 1e37f, 3e38f};
  for (const float magnitude : magnitudes) {
    std::vector<float> row(dim);
    for (auto& v : row) v = std::clamp(normal(random), -1.0f, 1.0f) * magnitude;
    rows.push_back(row);
    std::fill(row.begin(), row.end(), -magnitude);
    rows.push_back(row);
    for (auto& v : row) v = normal(random) * 1e-3f * magnitude;
    row[dim / 2] = magnitude;
    rows.push_back(row);
  }
  std::vector<float> mixed(dim);
  for (std::size_t i = 0; i < dim; ++i)
    mixed[i] = normal(random) * std::pow(10.0f, static_cast<float>(i % 20) - 9.0f);
  rows.push_back(mixed);
  rows.emplace_back(dim, 0.0f);
  for (int i = 0; i < 200; ++i) {
    std::vector<float> row(dim);
    for (auto& v : row) v = normal(random);
    rows.push_back(row);
  }
  return rows;
}

float block_max(const std::vector<float>& row, std::size_t i) {
  float most = 0;
  for (std::size_t j = i / 32 * 32; j < std::min(row.size(), i / 32 * 32 + 32); ++j)
    most = std::max(most, std::fabs(row[j]));
  return most;
}

constexpr std::size_t dims[] = {1, 7, 8, 32, 33, 40, 64, 80, 96, 128, 256};

}  // namespace

TEST_CASE("quantized rows keep the bound on their error", "[compute]") {
  const struct {
    kv_type type;
    double parts;
  } bounds[] = {{kv_type::q8, 254.0}, {kv_type::q4, 14.0}};
  for (const kernel_table* kernels : runnable_kernels()) {
    INFO(isa_name(*kernels));
    for (const std::size_t dim : dims)
      for (const auto& row : samples(dim))
        for (const auto& [type, parts] : bounds) {
          const auto bytes = encoded(*kernels, type, row);
          const auto values = decoded(*kernels, type, bytes, dim);
          double worst = 0;  // as a part of what is allowed
          for (std::size_t i = 0; i < dim; ++i) {
            const double most = static_cast<double>(block_max(row, i));
            const double error =
                std::fabs(static_cast<double>(values[i]) - static_cast<double>(row[i]));
            if (most < 1e-10) REQUIRE(values[i] == 0.0f);
            // 1e-5: the product with the inverse of the scale is rounded twice.
            else
              worst = std::max(worst, error / (most / parts * (1 + 1e-5)));
          }
          INFO(kv_type_name(type) << " dim " << dim << " first value " << row[0]);
          REQUIRE(worst <= 1.0);
        }
  }
}

TEST_CASE("decoding reads rows by their definition on every ISA", "[compute]") {
  for (const std::size_t dim : dims)
    for (const auto& row : samples(dim))
      for (const auto type : {kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4}) {
        const auto bytes = encoded(*runnable_kernels().back(), type, row);
        for (const kernel_table* kernels : runnable_kernels()) {
          INFO(isa_name(*kernels) << " " << kv_type_name(type) << " dim " << dim);
          const auto values = decoded(*kernels, type, bytes, dim);
          bool equal = true;
          for (std::size_t i = 0; i < dim; ++i)
            equal = equal && static_cast<double>(values[i]) ==
                                 static_cast<double>(static_cast<float>(test::stored_value(
                                     type, static_cast<std::uint32_t>(dim), bytes.data(),
                                     static_cast<std::uint32_t>(i))));
          REQUIRE(equal);
        }
      }
}

TEST_CASE("every ISA writes the same bytes", "[compute]") {
  for (const std::size_t dim : dims)
    for (const auto& row : samples(dim))
      for (const auto type : {kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4}) {
        const auto bytes = encoded(*runnable_kernels().back(), type, row);
        for (const kernel_table* kernels : runnable_kernels()) {
          INFO(isa_name(*kernels) << " " << kv_type_name(type) << " dim " << dim << " " << row[0]);
          REQUIRE(encoded(*kernels, type, row) == bytes);
        }
      }
}

TEST_CASE("blocks of nothing read back as exact zeros", "[compute]") {
  std::vector<float> row(64, 9.9e-11f);
  row[5] = -9.9e-11f;
  for (const kernel_table* kernels : runnable_kernels())
    for (const auto type : {kv_type::q8, kv_type::q4}) {
      const auto bytes = encoded(*kernels, type, row);
      REQUIRE(std::all_of(bytes.begin(), bytes.end(), [](auto b) { return b == std::byte{0}; }));
      for (const float v : decoded(*kernels, type, bytes, 64)) REQUIRE(v == 0.0f);
    }
}

TEST_CASE("f32 rows are exact and f16 rows are the nearest halves", "[compute]") {
  for (const kernel_table* kernels : runnable_kernels())
    for (const std::size_t dim : dims)
      for (const auto& row : samples(dim)) {
        REQUIRE(decoded(*kernels, kv_type::f32, encoded(*kernels, kv_type::f32, row), dim) == row);
        const auto halves =
            decoded(*kernels, kv_type::f16, encoded(*kernels, kv_type::f16, row), dim);
        for (std::size_t i = 0; i < dim; ++i) {
          const float bounded = std::clamp(row[i], -65504.0f, 65504.0f);
          if (halves[i] != static_cast<float>(static_cast<_Float16>(bounded))) FAIL(row[i]);
        }
      }
}

TEST_CASE("what is not finite or does not fit is refused and nothing written", "[compute]") {
  const kernel_table& kernels = *runnable_kernels().front();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const auto type : {kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4})
    for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> row(40, 1.0f);
      row[37] = bad;
      std::vector<std::byte> bytes(kv_row_bytes(type, 40), std::byte{0x5a});
      const auto written = encode_kv_row_checked(kernels, type, row, bytes.data());
      REQUIRE_FALSE(written);
      REQUIRE(written.error().code == errc::invalid_argument);
      REQUIRE(written.error().message.find("37") != std::string::npos);
      REQUIRE(std::all_of(bytes.begin(), bytes.end(), [](auto b) { return b == std::byte{0x5a}; }));
    }
  std::vector<std::byte> bytes(kv_row_bytes(kv_type::f32, 1));
  const float fits = 65519.0f;
  const float too_large = 65520.0f;
  REQUIRE(encode_kv_row_checked(kernels, kv_type::f16, {&fits, 1}, bytes.data()));
  REQUIRE_FALSE(encode_kv_row_checked(kernels, kv_type::f16, {&too_large, 1}, bytes.data()));
  REQUIRE(encode_kv_row_checked(kernels, kv_type::f32, {&too_large, 1}, bytes.data()));
}
