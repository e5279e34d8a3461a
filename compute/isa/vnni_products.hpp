// Products of quantized weights with AVX-512 VNNI, shared by the ISAs that have more besides.
#pragma once

#include "compute/matmul_kernels.hpp"
#include "compute/tensor_type.hpp"

namespace quire {

/// As matmul_kernels::product; instantiated for every quantized type in avx512_vnni_matmul.cpp.
template <tensor_type Type>
void avx512_vnni_product(const matmul_task& task) noexcept;

}  // namespace quire
