// Matrix products on AVX-512 with VNNI: 16 outputs per register, up to 16 rows per pass.
//
// A block of 16 outputs x 32 inputs is unpacked once into 8 registers of unsigned bytes and used
// for all rows of the group, whose f32 sums stay in registers. Weights without minima are stored
// plus 128; the integer sum then starts at -128 times the sum of the activations (see
// matmul_kernels.hpp).
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "compute/isa/float_products.hpp"
#include "compute/isa/prepare.hpp"
#include "compute/isa/vnni_products.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#include <immintrin.h>

#define QUIRE_ZMM_TARGET
#include "compute/isa/zmm_int8.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

template <tensor_type Type, int Rows>
void multiply_panels(const matmul_task& task) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  constexpr std::size_t scale_blocks = scale_inputs_of(Type) / code_block;
  const panel_layout layout = panel_layout_of(Type, task.cols);
  const std::size_t blocks = task.cols / code_block;
  for (std::size_t p = 0; p < task.num_panels; ++p) {
    const std::byte* panel = task.panels + p * task.panel_bytes;
    panel_cursor at{panel, panel + layout.subs_at, panel + layout.codes_at};
    const std::byte* main = task.x_q8;
    const std::byte* halves = main + blocks * Rows * main_row_bytes;
    __m512 sums[Rows];
#pragma GCC unroll 16
    for (int row = 0; row < Rows; ++row) sums[row] = _mm512_setzero_ps();
    for (std::size_t b = 0; b < blocks; ++b) {
      prefetch<Type>(at, task.panel_bytes);
      weight_block w;
      unpack<Type>(at, w);
      add_rows<Type, Rows>(sums, w, main, halves);
      at.codes += code_stride_of(Type);
      at.subs += sub_stride_of(Type);
      if (scale_blocks == 1 || b % scale_blocks == scale_blocks - 1)
        at.scales += scale_stride_of(Type);
      main += Rows * main_row_bytes;
      if constexpr (formula.scale_values == 16) halves += Rows * half_row_bytes;
    }
    store_sums<Rows>(task, p, sums);
  }
}

}  // namespace

template <tensor_type Type>
void avx512_vnni_product(const matmul_task& task) noexcept {
  constexpr auto by_rows = []<int... I>(std::integer_sequence<int, I...>) {
    return std::array{multiply_panels<Type, I + 1>...};
  }
  (std::make_integer_sequence<int, static_cast<int>(group_rows)>());
  by_rows[task.num_rows - 1](task);
}

#undef QUIRE_INLINE

namespace {

constexpr matmul_kernels make_table() {
  matmul_kernels table;
  table.int8_instruction = "vpdpbusd zmm";
  table.f32_instruction = "vfmadd zmm";
  set_vnni_products(table);
  table.set_product(tensor_type::f32, avx512_f32_product);
  table.set_product(tensor_type::f16, avx512_f16_product);
  table.set_product(tensor_type::bf16, avx512_bf16_product);
  table.quantize = avx512_quantize;
  table.normalize = avx512_normalize;
  return table;
}

}  // namespace

using enum tensor_type;
template void avx512_vnni_product<q4_0>(const matmul_task&) noexcept;
template void avx512_vnni_product<q4_1>(const matmul_task&) noexcept;
template void avx512_vnni_product<q5_0>(const matmul_task&) noexcept;
template void avx512_vnni_product<q5_1>(const matmul_task&) noexcept;
template void avx512_vnni_product<q8_0>(const matmul_task&) noexcept;
template void avx512_vnni_product<q2_k>(const matmul_task&) noexcept;
template void avx512_vnni_product<q3_k>(const matmul_task&) noexcept;
template void avx512_vnni_product<q4_k>(const matmul_task&) noexcept;
template void avx512_vnni_product<q5_k>(const matmul_task&) noexcept;
template void avx512_vnni_product<q6_k>(const matmul_task&) noexcept;
template void avx512_vnni_product<iq4_nl>(const matmul_task&) noexcept;
template void avx512_vnni_product<iq4_xs>(const matmul_task&) noexcept;

constinit const matmul_kernels avx512_vnni_matmul = make_table();

}  // namespace quire

#pragma GCC pop_options
