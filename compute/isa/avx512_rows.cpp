// The row kernels for AVX-512.
#include <immintrin.h>

#include <cstddef>

#include "compute/row_kernels.hpp"

// g++ 12 takes the undefined pass-through operands of its own intrinsics for ours (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")

namespace quire {
namespace {

#include "compute/isa/simd_avx512.inl"

#include "compute/isa/exponential.inl"

#include "compute/isa/rows.inl"

}  // namespace

constinit const row_kernels avx512_rows{
    .rmsnorm = rmsnorm,
    .rotate_adjacent = rotate_adjacent,
    .rotate_halves = rotate_halves,
    .gate_silu = gate_silu,
    .gate_gelu_tanh = gate_gelu_tanh,
    .add = add_row,
};

}  // namespace quire
