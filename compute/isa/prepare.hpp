// What prepares activations on an ISA; newer ISAs share these with the products of their own.
#pragma once

#include <cstddef>

namespace quire {

// As matmul_kernels::quantize, ::round_bf16 and ::normalize.
void avx2_quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                   std::byte* group) noexcept;
void avx2_normalize(const float* x, const float* weight, float epsilon, std::size_t n,
                    float* out) noexcept;
void avx512_quantize(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                     std::byte* group) noexcept;
void avx512_round_bf16(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                       std::byte* group) noexcept;  // with AVX-512 BF16
void avx512_normalize(const float* x, const float* weight, float epsilon, std::size_t n,
                      float* out) noexcept;

}  // namespace quire
