// The attention kernels for AVX2 and FMA.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "compute/attention_kernels.hpp"

#pragma GCC target("avx2,fma,f16c")

namespace quire {
namespace {

#include "compute/isa/simd_avx2.inl"

#include "compute/isa/exponential.inl"

// Register tiles: 16 registers.
constexpr std::size_t score_heads = 3;
constexpr std::size_t weigh_heads = 3;
constexpr std::size_t weigh_blocks = 1;
constexpr std::size_t multiply_rows = 6;
constexpr std::size_t multiply_vecs = 2;

#include "compute/isa/kv_rows.inl"

#include "compute/isa/attention.inl"

}  // namespace

constinit const attention_kernels avx2_attention{
    .encode = {encode<kv_type::f32>, encode<kv_type::f16>, encode<kv_type::q8>,
               encode<kv_type::q4>},
    .decode = {decode<kv_type::f32>, decode<kv_type::f16>, decode<kv_type::q8>,
               decode<kv_type::q4>},
    .scores = {scores<kv_type::f32>, scores<kv_type::f16>, scores<kv_type::q8>,
               scores<kv_type::q4>},
    .softmax = softmax,
    .weigh = {weigh<kv_type::f32>, weigh<kv_type::f16>, weigh<kv_type::q8>, weigh<kv_type::q4>},
    .transpose = transpose,
    .multiply = multiply,
    .softmax_rows = softmax_rows,
    .scale = scale,
};

}  // namespace quire
