// The table of the ISAs that multiply on 256-bit registers.
//
// Included like ymm_matmul.hpp.
#pragma once

#ifdef QUIRE_YMM_TARGET

#include <string_view>

#include "compute/isa/float_products.hpp"
#include "compute/isa/prepare.hpp"
#include "compute/isa/ymm_matmul.hpp"
#include "compute/matmul_kernels.hpp"

namespace quire {

namespace {

template <class Dot>
constexpr matmul_kernels make_ymm_table(std::string_view int8_instruction) {
  matmul_kernels table;
  table.int8_instruction = int8_instruction;
  table.f32_instruction = "vfmadd ymm";
  for_each_int8_type([&](auto type) { table.set_product(type, quantized_product<Dot, type>); });
  table.set_product(tensor_type::f32, avx2_f32_product);
  table.set_product(tensor_type::f16, avx2_f16_product);
  table.set_product(tensor_type::bf16, avx2_bf16_product);
  table.quantize = avx2_quantize;
  table.normalize = avx2_normalize;
  return table;
}

}  // namespace

}  // namespace quire

#endif
