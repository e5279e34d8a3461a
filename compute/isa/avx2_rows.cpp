// The row kernels for AVX2 and FMA.
#include <immintrin.h>

#include <cstddef>

#include "compute/row_kernels.hpp"

#pragma GCC target("avx2,fma,f16c")

namespace quire {
namespace {

#include "compute/isa/simd_avx2.inl"

#include "compute/isa/exponential.inl"

#include "compute/isa/rows.inl"

}  // namespace

constinit const row_kernels avx2_rows{
    .rmsnorm = rmsnorm,
    .rotate_adjacent = rotate_adjacent,
    .rotate_halves = rotate_halves,
    .gate_silu = gate_silu,
    .gate_gelu_tanh = gate_gelu_tanh,
    .add = add_row,
};

}  // namespace quire
