#include "compute/packed_matrix.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "compute/packed_format.hpp"
#include "core/check.hpp"
#include "core/half.hpp"

namespace quire {

namespace {

template <class Element>
void unpack_float_row(const std::byte* panel, std::size_t output, std::span<float> out) noexcept {
  for (std::size_t k = 0; k < out.size(); ++k) {
    Element element;
    std::memcpy(&element, panel + (k * panel_outputs + output) * sizeof element, sizeof element);
    if constexpr (std::is_same_v<Element, float>)
      out[k] = element;
    else
      out[k] = to_float(element);
  }
}

result<std::size_t> checked_panel_count(const tensor_type_traits& traits, std::size_t num_bytes,
                                        std::size_t rows, std::size_t cols) {
  const std::string what = std::string(traits.name) + " matrix of " + std::to_string(rows) + " x " +
                           std::to_string(cols);
  if (rows == 0 || cols == 0 || cols % traits.block_values != 0)
    return fail(errc::invalid_argument, what + ": the columns must be a multiple of " +
                                            std::to_string(traits.block_values) +
                                            " and neither may be zero");
  const std::size_t row_bytes = cols / traits.block_values * traits.block_bytes;
  if (num_bytes % row_bytes != 0 || num_bytes / row_bytes != rows)
    return fail(errc::invalid_argument,
                what + " does not lie in " + std::to_string(num_bytes) + " bytes");
  return (rows + panel_outputs - 1) / panel_outputs;
}

}  // namespace

result<packed_matrix> packed_matrix::pack(const compute_context& context, tensor_type type,
                                          std::span<const std::byte> blocks, std::size_t rows,
                                          std::size_t cols) {
  weight_memory own(0);
  return pack(context, type, blocks, rows, cols, own);
}

result<packed_matrix> packed_matrix::pack(const compute_context& context, tensor_type type,
                                          std::span<const std::byte> blocks, std::size_t rows,
                                          std::size_t cols, weight_memory& memory) {
  const auto* traits = find_tensor_type(static_cast<std::uint32_t>(type));
  if (traits == nullptr || !traits->supported)
    return fail(errc::unsupported,
                "tensor type " + std::to_string(static_cast<unsigned>(type)) + " cannot be packed");
  const auto num_panels = checked_panel_count(*traits, blocks.size(), rows, cols);
  if (!num_panels) return tl::unexpected<error>(num_panels.error());

  const std::size_t panel_bytes = panel_layout_of(type, cols).panel_bytes;
  packed_matrix matrix;
  matrix.rows_ = rows;
  matrix.cols_ = cols;
  matrix.type_ = type;
  matrix.size_bytes_ = *num_panels * panel_bytes;
  const std::shared_ptr<std::byte[]> packed = memory.take(matrix.size_bytes_);
  if (packed == nullptr)
    return fail(errc::invalid_argument,
                "no memory for " + std::to_string(matrix.size_bytes_) + " bytes of packed weights");
  const std::size_t row_bytes = blocks.size() / rows;
  const auto pack_one = [&](std::size_t panel) {
    const std::size_t first = panel * panel_outputs;
    pack_panel(type, blocks.data() + first * row_bytes, std::min(panel_outputs, rows - first),
               row_bytes, cols, packed.get() + panel * panel_bytes);
  };
  context.threads->parallel(*num_panels, pack_one);
  matrix.data_ = packed;
  return matrix;
}

void packed_matrix::unpack_row(std::size_t row, std::span<float> out) const noexcept {
  QUIRE_CHECK(row < rows_ && out.size() == cols_, "unpack_row: no such row, or a wrong length");
  const std::byte* panel =
      data_.get() + row / panel_outputs * panel_layout_of(type_, cols_).panel_bytes;
  const std::size_t output = row % panel_outputs;
  switch (type_) {
    case tensor_type::f32:
      return unpack_float_row<float>(panel, output, out);
    case tensor_type::f16:
      return unpack_float_row<half>(panel, output, out);
    case tensor_type::bf16:
      return unpack_float_row<bfloat16>(panel, output, out);
    default:
      break;
  }
  const quant_formula formula = formula_of(type_);
  const std::size_t inputs = scale_inputs_of(type_);
  quant_block parts;
  for (std::size_t first = 0; first < cols_; first += inputs) {
    unpack_block(type_, panel, cols_, output, first, parts);
    block_values(formula, parts, inputs, out.data() + first);
  }
}

}  // namespace quire
