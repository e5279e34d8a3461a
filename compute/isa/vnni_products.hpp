// Products of quantized weights with AVX-512 VNNI, shared by the ISAs that have more besides.
#pragma once

#include <cstddef>

#include "compute/matmul_kernels.hpp"
#include "compute/tensor_type.hpp"

namespace quire {

/// As matmul_kernels::product; instantiated for every quantized type in avx512_vnni_matmul.cpp.
template <tensor_type Type>
void avx512_vnni_product(const matmul_task& task) noexcept;

/// As matmul_kernels::long_product; instantiated likewise in avx512_vnni_long.cpp.
template <tensor_type Type>
void avx512_vnni_long_product(const matmul_task& task) noexcept;

/// From how many activations (rows times inputs) on it is the faster one: when they no longer fit
/// the second-level cache. Measured on Zen 5, with 1 MiB: even at 256 x 8192, 1.2 times as fast at
/// 512 x 8192.
inline constexpr std::size_t avx512_vnni_long_values = std::size_t{1} << 21;

/// Enters the products above, for every type that has them.
constexpr void set_vnni_products(matmul_kernels& table) {
  for_each_int8_type([&](auto type) {
    table.set_product(type, avx512_vnni_product<type>);
    table.long_product[static_cast<std::size_t>(type())] = avx512_vnni_long_product<type>;
  });
  table.long_values = avx512_vnni_long_values;
}

}  // namespace quire
