// AMX's matrix products with nothing but plain C++: software tiles, and weights unpacked by the
// scalar kernels' loops. Any machine can run them, slowly; tests do.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "compute/isa/amx_matmul.hpp"
#include "compute/isa/plain_weights.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"
#include "core/half.hpp"

namespace quire {

namespace {

/// The `Weights` of wide_matmul.hpp.
template <tensor_type Type>
struct plain_bf16_weights {
  // noipa: see zmm_bf16_weights.
  [[gnu::noipa]] static void unpack(const std::byte* panel, std::size_t cols, std::size_t first,
                                    std::size_t blocks, std::size_t /*ahead*/,
                                    std::byte* operands) noexcept {
    std::array<float, slice_blocks * code_block> values{};
    const std::size_t begin = first * code_block;
    const std::size_t count = std::min(blocks * code_block, cols - begin);
    for (std::size_t n = 0; n < panel_outputs; ++n) {
      read(panel, cols, n, begin, std::span(values).first(count));
      for (std::size_t k = 0; k < blocks * code_block; ++k) {
        const bfloat16 w = to_bfloat16(values[k]);
        std::memcpy(operands + k / 2 * 64 + 4 * n + 2 * (k % 2), &w, sizeof w);
      }
    }
  }

 private:
  /// Reads weights of output n from input `begin` on, which begins a file block.
  static void read(const std::byte* panel, std::size_t cols, std::size_t n, std::size_t begin,
                   std::span<float> values) noexcept {
    if constexpr (is_float(Type)) {
      std::conditional_t<Type == tensor_type::f16, half, bfloat16> element;
      for (std::size_t k = 0; k < values.size(); ++k) {
        std::memcpy(&element, panel + ((begin + k) * panel_outputs + n) * sizeof element,
                    sizeof element);
        values[k] = to_float(element);
      }
    } else {
      constexpr std::size_t inputs = scale_inputs_of(Type);
      quant_block parts;
      for (std::size_t k = 0; k < values.size(); k += inputs) {
        unpack_block(Type, panel, cols, n, begin + k, parts);
        block_values(formula_of(Type), parts, inputs, values.data() + k);
      }
    }
  }
};

/// The `Blocks` of amx_int8_product: the arithmetic of scalar_matmul.cpp, operation by operation.
template <tensor_type Type>
class plain_int8_blocks {
 public:
  static constexpr std::size_t inputs = 16;

  plain_int8_blocks(const matmul_task& task, std::size_t panel) noexcept
      : task_(task), panel_(panel) {}

  void unpack(std::byte* operand) noexcept {
    decode(Type, task_.panels + panel_ * task_.panel_bytes, task_.cols, block_ * code_block, w_);
    for (std::size_t n = 0; n < panel_outputs; ++n)
      for (std::size_t i = 0; i < code_block; ++i)
        operand[i / 4 * code_line + 4 * n + i % 4] =
            static_cast<std::byte>(static_cast<std::int8_t>(w_.levels[n][i]));
  }

  void add(const std::int32_t* low, const std::int32_t* high) noexcept {
    for (std::size_t row = 0; row < group_rows; ++row) {
      const auto x = load_block(task_.x_q8, group_rows, task_.cols, block_, row);
      for (std::size_t n = 0; n < panel_outputs; ++n)
        for (std::size_t part = 0; part < 2; ++part) {
          const std::int32_t dot = (part == 0 ? low : high)[row * panel_outputs + n];
          sums_[row][n] += static_cast<float>(dot) * (w_.scales[part][n] * x.scale);
          sums_[row][n] += w_.minimums[part][n] * x.half_sums[part];
        }
    }
    ++block_;
  }

  void store() noexcept {
    for (std::size_t row = 0; row < group_rows; ++row)
      store_outputs(task_, row, panel_, sums_[row]);
  }

 private:
  const matmul_task& task_;
  std::size_t panel_;
  std::size_t block_ = 0;
  decoded_block w_;
  std::array<std::array<float, panel_outputs>, group_rows> sums_{};
};

template <tensor_type Type>
void product(const matmul_task& task) noexcept {
  if (task.num_rows == group_rows)
    amx_int8_product<software_tiles, plain_int8_blocks<Type>>(task);
  else
    scalar_product<Type>(task);
}

void round_bf16(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                std::byte* group) noexcept {
  std::memset(group, 0, bf16_group_bytes(cols));
  for (std::size_t row = 0; row < num_rows; ++row)
    for (std::size_t k = 0; k < cols; ++k) {
      const bfloat16 value = to_bfloat16(x[row * stride + k]);
      std::memcpy(group + k / block_cols * bf16_tile_bytes + 64 * row + 2 * (k % block_cols),
                  &value, sizeof value);
    }
}

constexpr matmul_kernels make_table() {
  matmul_kernels table;
  table.int8_instruction = "plain C++";
  table.f32_instruction = "plain C++";
  table.wide_instruction = "plain C++";
  using core = amx_bf16_core<software_tiles>;
  for_each_int8_type([&](auto type) {
    table.set_product(type, product<type>);
    table.set_wide_product(type, wide_product<core, plain_bf16_weights<type>>, amx_wide_rows);
  });
  table.set_product(tensor_type::f32, scalar_f32_product);
  table.set_product(tensor_type::f16, scalar_f16_product);
  table.set_product(tensor_type::bf16, scalar_bf16_product);
  using enum tensor_type;
  table.set_wide_product(f16, wide_product<core, plain_bf16_weights<f16>>, amx_wide_rows);
  table.set_wide_product(bf16, wide_product<core, plain_bf16_weights<bf16>>, amx_wide_rows);
  table.quantize = scalar_quantize;
  table.round_bf16 = round_bf16;
  table.normalize = scalar_normalize;
  return table;
}

}  // namespace

constinit const matmul_kernels amx_plain_matmul = make_table();

}  // namespace quire
