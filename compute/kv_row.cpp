#include "compute/kv_row.hpp"

#include <cmath>
#include <string>

#include "compute/attention_kernels.hpp"
#include "compute/kernel_table.hpp"

namespace quire {

void encode_kv_row(const kernel_table& kernels, kv_type type, std::span<const float> values,
                   std::byte* row) noexcept {
  kernels.attention->encode[static_cast<std::size_t>(type)](values.data(), values.size(), row);
}

void decode_kv_row(const kernel_table& kernels, kv_type type, const std::byte* row,
                   std::span<float> values) noexcept {
  kernels.attention->decode[static_cast<std::size_t>(type)](row, values.size(), values.data());
}

result<void> encode_kv_row_checked(const kernel_table& kernels, kv_type type,
                                   std::span<const float> values, std::byte* row) {
  // From here on rounding to half gives infinity: the middle of 65504 and 65536.
  constexpr float too_large_for_half = 65520.0f;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      return fail(errc::invalid_argument, "KV row: value " + std::to_string(i) + " is " +
                                              std::to_string(values[i]) +
                                              "; keys and values must be finite");
    if (type == kv_type::f16 && std::fabs(values[i]) >= too_large_for_half)
      return fail(errc::invalid_argument, "KV row: value " + std::to_string(i) + " is " +
                                              std::to_string(values[i]) +
                                              ", too large for f16; store it as f32 or q8");
  }
  encode_kv_row(kernels, type, values, row);
  return {};
}

}  // namespace quire
