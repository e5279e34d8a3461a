#include "compute/packed_format.hpp"

#include <cstdint>
#include <cstring>

namespace quire {

namespace {

/// Where a code's bits lie within the lines of its block: byte, shift and mask of the first field,
/// and of the field with the remaining bits.
struct code_place {
  std::size_t line = 0;
  unsigned shift = 0;
  unsigned bits = 0;
  std::size_t high_line = 0;
  unsigned high_shift = 0;
  unsigned high_bits = 0;
};

constexpr code_place place_of(unsigned bits, std::size_t quad) noexcept {
  const auto g = static_cast<unsigned>(quad);
  switch (bits) {
    case 2:
      return {g / 4, 2 * (g % 4), 2, 0, 0, 0};
    case 3:
      return {g / 4, 2 * (g % 4), 2, 2, g, 1};
    case 4:
      return {g % 4, 4 * (g / 4), 4, 0, 0, 0};
    case 5:
      return {g % 4, 4 * (g / 4), 4, 4, g, 1};
    case 6:
      return {g % 4, 4 * (g / 4), 4, 4 + g / 4, 2 * (g % 4), 2};
    default:
      return {g, 0, 8, 0, 0, 0};
  }
}

void put_bits(std::byte& byte, unsigned value, unsigned shift) noexcept {
  byte |= static_cast<std::byte>(value << shift);
}

unsigned get_bits(std::byte byte, unsigned shift, unsigned bits) noexcept {
  return (std::to_integer<unsigned>(byte) >> shift) & ((1u << bits) - 1u);
}

/// Adds 32 codes of one output to the lines of their block.
void put_codes(unsigned bits, std::size_t output, const std::uint8_t* codes,
               std::byte* lines) noexcept {
  for (std::size_t quad = 0; quad < 8; ++quad) {
    const code_place place = place_of(bits, quad);
    for (std::size_t j = 0; j < 4; ++j) {
      const unsigned code = codes[4 * quad + j];
      const std::size_t at = 4 * output + j;
      put_bits(lines[place.line * code_line + at], code & ((1u << place.bits) - 1u), place.shift);
      if (place.high_bits != 0)
        put_bits(lines[place.high_line * code_line + at], code >> place.bits, place.high_shift);
    }
  }
}

void get_codes(unsigned bits, std::size_t output, const std::byte* lines,
               std::uint8_t* codes) noexcept {
  for (std::size_t quad = 0; quad < 8; ++quad) {
    const code_place place = place_of(bits, quad);
    for (std::size_t j = 0; j < 4; ++j) {
      const std::size_t at = 4 * output + j;
      unsigned code = get_bits(lines[place.line * code_line + at], place.shift, place.bits);
      if (place.high_bits != 0)
        code |= get_bits(lines[place.high_line * code_line + at], place.high_shift, place.high_bits)
                << place.bits;
      codes[4 * quad + j] = static_cast<std::uint8_t>(code);
    }
  }
}

/// Stores the sub-scales of block `index` (32 inputs) of the file block.
void put_subs(const quant_formula& formula, std::size_t output, std::size_t index,
              const quant_block& parts, std::byte* subs) noexcept {
  if (formula.scale_values == 32) {
    subs[output] = static_cast<std::byte>(parts.scales[index]);
    if (formula.minimum) subs[16 + output] = static_cast<std::byte>(parts.mins[index]);
    return;
  }
  for (std::size_t part = 0; part < 2; ++part) {
    auto byte = static_cast<std::byte>(parts.scales[2 * index + part]);
    if (formula.minimum) put_bits(byte, parts.mins[2 * index + part], 4);
    subs[16 * part + output] = byte;
  }
}

void get_subs(const quant_formula& formula, std::size_t output, std::size_t index,
              const std::byte* subs, quant_block& parts) noexcept {
  if (formula.scale_values == 32) {
    parts.scales[index] = static_cast<std::int8_t>(subs[output]);
    if (formula.minimum) parts.mins[index] = static_cast<std::uint8_t>(subs[16 + output]);
    return;
  }
  for (std::size_t part = 0; part < 2; ++part) {
    const std::byte byte = subs[16 * part + output];
    if (formula.minimum) {
      parts.scales[2 * index + part] = static_cast<std::int8_t>(get_bits(byte, 0, 4));
      parts.mins[2 * index + part] = static_cast<std::uint8_t>(get_bits(byte, 4, 4));
    } else {
      parts.scales[2 * index + part] = static_cast<std::int8_t>(byte);
    }
  }
}

void pack_float_panel(std::size_t element_bytes, const std::byte* values, std::size_t rows,
                      std::size_t row_bytes, std::size_t cols, std::byte* panel) noexcept {
  for (std::size_t output = 0; output < rows; ++output)
    for (std::size_t k = 0; k < cols; ++k)
      std::memcpy(panel + (k * panel_outputs + output) * element_bytes,
                  values + output * row_bytes + k * element_bytes, element_bytes);
}

}  // namespace

void pack_panel(tensor_type type, const std::byte* blocks, std::size_t rows, std::size_t row_bytes,
                std::size_t cols, std::byte* panel) noexcept {
  const panel_layout layout = panel_layout_of(type, cols);
  std::memset(panel, 0, layout.panel_bytes);
  const tensor_type_traits& traits = traits_of(type);
  if (is_float(type))
    return pack_float_panel(traits.block_bytes, blocks, rows, row_bytes, cols, panel);
  const quant_formula formula = formula_of(type);
  quant_block parts;
  for (std::size_t output = 0; output < rows; ++output)
    for (std::size_t k = 0; k < cols; k += traits.block_values) {
      split_block(type, blocks + output * row_bytes + k / traits.block_values * traits.block_bytes,
                  parts);
      std::byte* scales = panel + k / scale_inputs_of(type) * scale_stride_of(type) + 2 * output;
      std::memcpy(scales, &parts.d, sizeof parts.d);
      if (formula.minimum) std::memcpy(scales + 32, &parts.m, sizeof parts.m);
      for (std::size_t i = 0; i < traits.block_values / code_block; ++i) {
        const std::size_t block = k / code_block + i;
        if (formula.scale_values != 0)
          put_subs(formula, output, i, parts, panel + layout.subs_at + block * sub_stride_of(type));
        put_codes(formula.bits, output, parts.codes.data() + i * code_block,
                  panel + layout.codes_at + block * code_stride_of(type));
      }
    }
}

void unpack_block(tensor_type type, const std::byte* panel, std::size_t cols, std::size_t output,
                  std::size_t first, quant_block& parts) noexcept {
  const panel_layout layout = panel_layout_of(type, cols);
  const quant_formula formula = formula_of(type);
  const std::size_t inputs = scale_inputs_of(type);
  const std::byte* scales = panel + first / inputs * scale_stride_of(type) + 2 * output;
  std::memcpy(&parts.d, scales, sizeof parts.d);
  if (formula.minimum) std::memcpy(&parts.m, scales + 32, sizeof parts.m);
  for (std::size_t i = 0; i < inputs / code_block; ++i) {
    const std::size_t block = first / code_block + i;
    if (formula.scale_values != 0)
      get_subs(formula, output, i, panel + layout.subs_at + block * sub_stride_of(type), parts);
    get_codes(formula.bits, output, panel + layout.codes_at + block * code_stride_of(type),
              parts.codes.data() + i * code_block);
  }
}

}  // namespace quire
