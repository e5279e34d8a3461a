// Products of F32, F16 and BF16 weights with f32 activations, per register width: ISAs that add
// nothing to these share them. As matmul_kernels::product.
#pragma once

#include "compute/matmul_kernels.hpp"

namespace quire {

void avx2_f32_product(const matmul_task& task) noexcept;
void avx2_f16_product(const matmul_task& task) noexcept;
void avx2_bf16_product(const matmul_task& task) noexcept;

void avx512_f32_product(const matmul_task& task) noexcept;
void avx512_f16_product(const matmul_task& task) noexcept;
void avx512_bf16_product(const matmul_task& task) noexcept;

}  // namespace quire
