// How packed weights lie in memory: one layout for all ISAs.
//
// A matrix is a row of panels; a panel holds 16 outputs (rows of the file's matrix, the last panel
// padded with zeros) and all inputs k. A quantized panel has three sections, each 64-byte aligned:
//   scales  per 32 inputs (per 256 for K-quants and IQ4_XS): half d[16],
//             then half m[16] if it has minima
//   subs    only where d is per 256; per 32 inputs:
//             a scale per 32: int8 scale[16], then uint8 min[16] if it has minima
//             a scale per 16: int8 scale[2][16], or with minima uint8 (scale | min << 4)[2][16]
//   codes   per 32 inputs: lines of 64 bytes, byte 4 n + j belongs to output n and input 4 g + j,
//           where g (0..7) numbers the quads of inputs of the block:
//             4, 5, 6 bits: line g % 4, shifted by 4 (g / 4): the low four bits
//             5 bits: one more line, bit g; 6 bits: two more, line g / 4, shifted by 2 (g % 4)
//             2, 3 bits: line g / 4, shifted by 2 (g % 4); 3 bits: one more line, bit g
//             8 bits: line g
// A 64-byte line is one operand of the 4-way dot products (vpdpbusd, and a row of an AMX tile).
// F32, F16 and BF16 panels are [k][16] of their own type.
#pragma once

#include <cstddef>

#include "compute/quant_block.hpp"
#include "compute/tensor_type.hpp"

namespace quire {

/// Outputs per panel.
inline constexpr std::size_t panel_outputs = 16;
/// Inputs per block of codes.
inline constexpr std::size_t code_block = 32;
/// Bytes per line of codes.
inline constexpr std::size_t code_line = 64;

/// Returns the bytes of codes per panel and 32 inputs.
constexpr std::size_t code_stride_of(tensor_type type) noexcept {
  return formula_of(type).bits * code_line;
}

/// Returns the bytes of halves per panel and 32 or 256 inputs.
constexpr std::size_t scale_stride_of(tensor_type type) noexcept {
  return formula_of(type).minimum ? 64 : 32;
}

/// Returns the inputs that share the halves of the scale section.
constexpr std::size_t scale_inputs_of(tensor_type type) noexcept {
  return formula_of(type).scale_values == 0 ? 32 : 256;
}

/// Returns the bytes of sub-scales per panel and 32 inputs.
constexpr std::size_t sub_stride_of(tensor_type type) noexcept {
  const quant_formula formula = formula_of(type);
  if (formula.scale_values == 0) return 0;
  return formula.scale_values == 32 && !formula.minimum ? 16 : 32;
}

/// Returns whether a type's weights are multiplied as floats.
constexpr bool is_float(tensor_type type) noexcept {
  return formula_of(type).bits == 0;
}

/// Where the sections of a panel begin, for a given number of inputs.
struct panel_layout {
  std::size_t subs_at = 0;
  std::size_t codes_at = 0;
  std::size_t panel_bytes = 0;
};

/// Returns the layout of a type's panels with `cols` inputs.
constexpr panel_layout panel_layout_of(tensor_type type, std::size_t cols) noexcept {
  const auto aligned = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
  if (is_float(type))
    return {0, 0, aligned(cols * panel_outputs * (type == tensor_type::f32 ? 4 : 2))};
  const std::size_t blocks = cols / code_block;
  panel_layout layout;
  layout.subs_at = aligned(cols / scale_inputs_of(type) * scale_stride_of(type));
  layout.codes_at = layout.subs_at + aligned(blocks * sub_stride_of(type));
  layout.panel_bytes = layout.codes_at + blocks * code_stride_of(type);
  return layout;
}

/// Packs 16 outputs: `rows` of the file's matrix, each `row_bytes` long, the rest zeros.
void pack_panel(tensor_type type, const std::byte* blocks, std::size_t rows, std::size_t row_bytes,
                std::size_t cols, std::byte* panel) noexcept;

/// Takes inputs [first, first + n) of one output of a panel apart, where n is 256 if the scales are
/// per 256 inputs and 32 otherwise, and `first` is a multiple of n.
void unpack_block(tensor_type type, const std::byte* panel, std::size_t cols, std::size_t output,
                  std::size_t first, quant_block& parts) noexcept;

}  // namespace quire
