// Matrix products on AMX tiles, for any backend of compute/isa/tiles.hpp.
//
// bf16: two groups of 16 rows times two panels of 16 outputs, four tiles of f32 sums.
// int8: one group of 16 rows, block by block, because scales change every 32 inputs: the tiles give
// the integer sums, which are scaled and added up exactly as the ISA's other products of int8 do
// it, so that the values do not depend on which of them computed a row. Included like
// wide_matmul.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/tiles.hpp"
#include "compute/isa/wide_matmul.hpp"

namespace quire {

namespace {

/// From how many rows on bfloat16 tiles pay for dequantizing the weights. Reckoned, not measured: a
/// block of 16 outputs x 32 inputs costs about 100 cycles to dequantize and 1 per row to multiply,
/// against 4 to 6 cycles per row on int8.
constexpr std::uint16_t amx_wide_rows = 32;

/// All tiles with 16 rows of 64 bytes.
constexpr tile_config full_tiles = [] {
  tile_config config;
  for (std::size_t i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = 16;
  }
  return config;
}();

/// Tiles for blocks of Inputs int8 inputs: 0 and 1 hold sums, 2 and 3 activations, 4 and 5 weights.
template <std::size_t Inputs>
constexpr tile_config block_tiles = [] {
  tile_config config;
  for (std::size_t i = 0; i < 2; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = 16;
    config.row_bytes[2 + i] = Inputs;
    config.rows[2 + i] = 16;
    config.row_bytes[4 + i] = 64;
    config.rows[4 + i] = Inputs / 4;
  }
  return config;
}();

template <class Tiles>
struct amx_bf16_core {
  static void begin() noexcept { Tiles::configure(full_tiles); }

  // Tiles 0..3 hold the sums of group g and panel p at 2 g + p; 4 and 5 activations, 6 and 7
  // weights.
  template <int Groups, int Panels>
  static void multiply(const std::byte* const (&x)[Groups], const std::byte* const (&w)[Panels],
                       std::size_t blocks, const output_tile (&out)[Groups][Panels]) noexcept {
    load_sums<0>(out[0][0]);
    if constexpr (Panels == 2) load_sums<1>(out[0][1]);
    if constexpr (Groups == 2) load_sums<2>(out[1][0]);
    if constexpr (Groups == 2 && Panels == 2) load_sums<3>(out[1][1]);
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::size_t at = b * bf16_tile_bytes;
      Tiles::template load<4>(x[0] + at, 64);
      Tiles::template load<6>(w[0] + at, 64);
      Tiles::template add_bf16<0, 4, 6>();
      if constexpr (Panels == 2) {
        Tiles::template load<7>(w[1] + at, 64);
        Tiles::template add_bf16<1, 4, 7>();
      }
      if constexpr (Groups == 2) {
        Tiles::template load<5>(x[1] + at, 64);
        Tiles::template add_bf16<2, 5, 6>();
        if constexpr (Panels == 2) Tiles::template add_bf16<3, 5, 7>();
      }
    }
    store_sums<0>(out[0][0]);
    if constexpr (Panels == 2) store_sums<1>(out[0][1]);
    if constexpr (Groups == 2) store_sums<2>(out[1][0]);
    if constexpr (Groups == 2 && Panels == 2) store_sums<3>(out[1][1]);
  }

 private:
  static bool is_whole(const output_tile& out) noexcept {
    return out.rows == group_rows && out.outputs == panel_outputs;
  }

  template <int Tile>
  static void load_sums(const output_tile& out) noexcept {
    if (out.begin) return Tiles::template zero<Tile>();
    if (is_whole(out)) return Tiles::template load<Tile>(out.at, out.stride * sizeof(float));
    alignas(64) float sums[group_rows][panel_outputs] = {};
    for (std::size_t row = 0; row < out.rows; ++row)
      std::memcpy(sums[row], out.at + row * out.stride, out.outputs * sizeof(float));
    Tiles::template load<Tile>(sums, sizeof sums[0]);
  }

  template <int Tile>
  static void store_sums(const output_tile& out) noexcept {
    if (is_whole(out)) return Tiles::template store<Tile>(out.at, out.stride * sizeof(float));
    alignas(64) float sums[group_rows][panel_outputs];
    Tiles::template store<Tile>(sums, sizeof sums[0]);
    for (std::size_t row = 0; row < out.rows; ++row)
      std::memcpy(out.at + row * out.stride, sums[row], out.outputs * sizeof(float));
  }
};

/// The product of a group of 16 rows. `Blocks` is the ISA's way to unpack and scale:
///   Blocks::inputs        inputs per integer sum: 32, or 16 where it scales halves apart
///   Blocks b(task, panel) begins a panel
///   b.unpack(operand)     writes the next block's weights, signed: 8 lines of 64 bytes
///   b.add(low, high)      scales and adds that block's sums, int32 (16, 16); `high` where
///                         inputs is 16
///   b.store()             stores the panel's outputs
template <class Tiles, class Blocks>
void amx_int8_product(const matmul_task& task) noexcept {
  constexpr std::size_t inputs = Blocks::inputs;
  Tiles::configure(block_tiles<inputs>);
  alignas(64) std::byte operand[8 * code_line];
  alignas(64) std::int32_t sums[2][group_rows * panel_outputs];
  constexpr std::size_t sums_stride = panel_outputs * sizeof(std::int32_t);
  for (std::size_t panel = 0; panel < task.num_panels; ++panel) {
    Blocks blocks(task, panel);
    const std::byte* q = task.x_q8;
    for (std::size_t b = 0; b < task.cols / block_cols; ++b) {
      blocks.unpack(operand);
      Tiles::template zero<0>();
      Tiles::template load<2>(q, block_cols);
      Tiles::template load<4>(operand, code_line);
      Tiles::template add_int8<0, 2, 4>();
      Tiles::template store<0>(sums[0], sums_stride);
      if constexpr (inputs == 16) {
        Tiles::template zero<1>();
        Tiles::template load<3>(q + 16, block_cols);
        Tiles::template load<5>(operand + 4 * code_line, code_line);
        Tiles::template add_int8<1, 3, 5>();
        Tiles::template store<1>(sums[1], sums_stride);
      }
      blocks.add(sums[0], sums[1]);
      q += group_rows * main_row_bytes;
    }
    blocks.store();
  }
}

}  // namespace

}  // namespace quire
