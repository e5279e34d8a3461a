// Dequantization of file blocks to f32: the reference that every packed kernel is tested against.
#pragma once

#include <cstddef>
#include <span>

#include "compute/tensor_type.hpp"
#include "core/error.hpp"

namespace quire {

/// Decodes `out.size()` values from `blocks`, bit-exact with the formats' reference decoder.
/// out.size() must be a multiple of the type's block_values and blocks must hold exactly that many
/// values. Errors: invalid_argument (sizes disagree), unsupported (type without a decoder).
result<void> dequantize_row(tensor_type type, std::span<const std::byte> blocks,
                            std::span<float> out);

}  // namespace quire
