// Matrix products of every ISA against the scalar ones, on bytes of the fuzzer's choice.
//
// Input: type, outputs, inputs in blocks, rows, magnitude of the activations (one byte each); the
// rest, repeated as often as needed, is weights and then activations. Scales that are not finite
// are made so.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

#include "compute/ops/matmul.hpp"
#include "tests/compute/product_bounds.hpp"

using namespace quire;
using namespace quire::test;

namespace {

/// Hands out the bytes again and again, each time with another mask so that they do not repeat.
class byte_source {
 public:
  explicit byte_source(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  std::uint8_t next() {
    if (bytes_.empty()) return 0;
    const std::size_t at = used_ % bytes_.size();
    const std::size_t round = used_++ / bytes_.size();
    return static_cast<std::uint8_t>(bytes_[at] ^ (round * 0x9du));
  }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t used_ = 0;
};

/// Where the halves of a block are.
std::vector<std::size_t> halves_of(tensor_type type) {
  switch (type) {
    using enum tensor_type;
    case q4_1:
    case q5_1:
    case q4_k:
    case q5_k:
      return {0, 2};
    case q2_k:
      return {80, 82};
    case q3_k:
      return {108};
    case q6_k:
      return {208};
    case f32:
      return {2};  // the upper half: bits 8 to 15 of it are sign and exponent
    default:
      return {0};
  }
}

/// Clears an exponent bit where all are set, and where a float is too large to be multiplied 10^4
/// times.
void make_finite(tensor_type type, std::byte* block) {
  for (const std::size_t at : halves_of(type)) {
    const std::byte exponent{type == tensor_type::f32 || type == tensor_type::bf16
                                 ? std::uint8_t{0x60}
                                 : std::uint8_t{0x7c}};
    if ((block[at + 1] & exponent) == exponent) block[at + 1] &= std::byte{0x9f};
  }
}

test_matrix make_matrix(tensor_type type, std::size_t rows, std::size_t cols, byte_source& source) {
  const tensor_type_traits& traits = traits_of(type);
  test_matrix m;
  m.type = type;
  m.rows = rows;
  m.cols = cols;
  m.blocks.resize(rows * cols / traits.block_values * traits.block_bytes);
  for (std::byte& byte : m.blocks) byte = static_cast<std::byte>(source.next());
  for (std::size_t at = 0; at < m.blocks.size(); at += traits.block_bytes)
    make_finite(type, m.blocks.data() + at);
  decode_blocks(m);
  return m;
}

template <class Expected>
void check(const kernel_table& table, const char* what, const std::vector<float>& actual,
           const std::vector<Expected>& expected, const test_matrix& m, const std::vector<float>& x,
           std::size_t num_rows, double relative) {
  const auto far = first_deviation(actual, expected, m, x, num_rows, relative);
  if (!far) return;
  std::fprintf(stderr,
               "%s, %s product of %s, %zu outputs, %zu inputs, %zu rows: row %zu output %zu "
               "is %.9g instead of %.9g, bound %.3g\n",
               std::string(table.name).c_str(), what, std::string(traits_of(m.type).name).c_str(),
               m.rows, m.cols, num_rows, far->row, far->output, far->actual, far->expected,
               far->bound);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 6) return 0;
  static arena threads(1);
  const auto types = tensor_types();
  const tensor_type_traits& traits = types[data[0] % types.size()];
  const std::size_t outputs = 1 + data[1] % 40;
  const std::size_t blocks = 1 + data[2] % (traits.block_values == 256 ? 3 : 20);
  const std::size_t cols =
      traits.block_values == 1 ? 1 + data[2] * 3u : blocks * traits.block_values;
  const std::size_t num_rows = 1 + data[3] % 36;
  const float magnitude = std::ldexp(1.0f, data[4] % 120 - 80);  // 2^-80 .. 2^39
  byte_source source({data + 5, size - 5});
  const test_matrix m = make_matrix(traits.type, outputs, cols, source);
  std::vector<float> x(num_rows * cols);
  for (float& v : x)
    v = magnitude * static_cast<float>(static_cast<std::int8_t>(source.next())) *
        (1.0f + static_cast<float>(source.next()) / 256.0f);

  auto packed = packed_matrix::pack({scalar_kernels(), &threads}, m.type, m.blocks, outputs, cols);
  QUIRE_CHECK(packed.has_value(), "cannot pack");
  const auto expected = product({scalar_kernels(), &threads}, *packed, x, num_rows);
  const auto exact = exact_product(m, x, num_rows);
  for (const kernel_table* table : vector_kernels()) {
    const auto check_int8 = [&](const kernel_table& used, const char* what) {
      check(*table, what, product({&used, &threads, true}, *packed, x, num_rows), expected, m, x,
            num_rows, rounding(m.type, cols));
    };
    check_int8(*table, "row-independent");
    matmul_kernels kernels = *table->matmul;  // long and wide for every number of rows
    kernels.long_values = 0;
    kernels.wide_rows.fill(0);
    kernel_table always = *table;
    always.matmul = &kernels;
    if (kernels.long_product[static_cast<std::size_t>(m.type)] != nullptr)
      check_int8(always, "long");
    if (has_wide(*table, m.type))
      check(*table, "wide", product({&always, &threads}, *packed, x, num_rows), exact, m, x,
            num_rows, wide_rounding(cols));
  }
  return 0;
}
