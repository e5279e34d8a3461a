#include "compute/dequantize.hpp"

#include <cstring>
#include <string>

#include "compute/quant_block.hpp"
#include "core/half.hpp"

namespace quire {

namespace {

template <class Element>
void convert_row(const std::byte* blocks, std::span<float> out) noexcept {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Element element;
    std::memcpy(&element, blocks + i * sizeof element, sizeof element);
    out[i] = to_float(element);
  }
}

}  // namespace

result<void> dequantize_row(tensor_type type, std::span<const std::byte> blocks,
                            std::span<float> out) {
  const auto* traits = find_tensor_type(static_cast<std::uint32_t>(type));
  if (traits == nullptr || !traits->supported)
    return fail(errc::unsupported,
                "tensor type " + std::to_string(static_cast<unsigned>(type)) + " has no decoder");
  if (out.size() % traits->block_values != 0 ||
      blocks.size() != out.size() / traits->block_values * traits->block_bytes)
    return fail(errc::invalid_argument, std::string(traits->name) + ": " +
                                            std::to_string(blocks.size()) + " bytes do not hold " +
                                            std::to_string(out.size()) + " values");
  switch (type) {
    case tensor_type::f32:
      if (!out.empty()) std::memcpy(out.data(), blocks.data(), blocks.size());
      return {};
    case tensor_type::f16:
      convert_row<half>(blocks.data(), out);
      return {};
    case tensor_type::bf16:
      convert_row<bfloat16>(blocks.data(), out);
      return {};
    default:
      break;
  }
  const quant_formula formula = formula_of(type);
  quant_block parts;
  const std::byte* block = blocks.data();
  for (std::size_t i = 0; i < out.size(); i += traits->block_values) {
    split_block(type, block, parts);
    block_values(formula, parts, traits->block_values, out.data() + i);
    block += traits->block_bytes;
  }
  return {};
}

}  // namespace quire
