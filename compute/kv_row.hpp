// One row of keys or values, encoded and decoded by value: for the store's replay, tests and tools.
// The formats are those of compute/kv_layout.hpp; every ISA gives the same bytes.
#pragma once

#include <cstddef>
#include <span>

#include "compute/kernels.hpp"
#include "compute/kv_layout.hpp"
#include "core/error.hpp"

namespace quire {

/// Writes values.size() values to `row`, kv_row_bytes(type, values.size()) bytes. What is not
/// finite is not looked for, and f16 saturates.
void encode_kv_row(const kernel_table& kernels, kv_type type, std::span<const float> values,
                   std::byte* row) noexcept;

/// Reads values.size() values of `row`.
void decode_kv_row(const kernel_table& kernels, kv_type type, const std::byte* row,
                   std::span<float> values) noexcept;

/// The same as encode_kv_row after looking at every value. Errors: invalid_argument, naming the
/// value, when it is NaN or infinite or too large for f16; `row` is not touched then.
result<void> encode_kv_row_checked(const kernel_table& kernels, kv_type type,
                                   std::span<const float> values, std::byte* row);

}  // namespace quire
