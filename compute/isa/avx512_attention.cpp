// The attention kernels for AVX-512, integer dot products included.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "compute/attention_kernels.hpp"

// g++ 12 takes the undefined pass-through operands of its own intrinsics for ours (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")

namespace quire {
namespace {

#include "compute/isa/simd_avx512.inl"

#include "compute/isa/exponential.inl"

// Register tiles: 32 registers.
constexpr std::size_t score_heads = 4;
constexpr std::size_t weigh_heads = 4;
constexpr std::size_t weigh_blocks = 2;
constexpr std::size_t multiply_rows = 6;
constexpr std::size_t multiply_vecs = 4;

#include "compute/isa/kv_rows.inl"

#include "compute/isa/attention.inl"

#include "compute/isa/avx512_softmax.inl"

#include "compute/isa/avx512_packed_attention.inl"

#include "compute/isa/avx512_quantized_rows.inl"

constinit const packed_kernels avx512_packed{
    .pack_queries = {nullptr, nullptr, pack_queries<kv_type::q8>, pack_queries<kv_type::q4>},
    .pack_keys = {nullptr, nullptr, pack_keys<kv_type::q8>, pack_keys<kv_type::q4>},
    .pack_values = {nullptr, nullptr, pack_values<kv_type::q8>, pack_values<kv_type::q4>},
    .scores = {nullptr, nullptr, score_quantized<kv_type::q8>, score_quantized<kv_type::q4>},
    .weigh_rows = {nullptr, nullptr, weigh_quantized<kv_type::q8>, weigh_quantized<kv_type::q4>},
    .dot = dot_packed,
    .weigh = weigh_packed,
};

}  // namespace

constinit const attention_kernels avx512_attention{
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
    .softmax_rows = softmax_rows_wide,
    .scale = scale,
    .packed = &avx512_packed,
};

}  // namespace quire
