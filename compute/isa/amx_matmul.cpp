// Matrix products on AMX, over the tiles of the processor and, on the same vector code, over
// software tiles. An AMX processor has AVX-512 with VNNI and BF16 too.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

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
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
#include <immintrin.h>

#define QUIRE_ZMM_TARGET
#include "compute/isa/amx_matmul.hpp"
#include "compute/isa/zmm_bf16.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// The `Blocks` of amx_int8_product: the arithmetic of avx512_vnni_matmul.cpp, operation by
/// operation.
template <tensor_type Type>
class zmm_int8_blocks {
 public:
  static constexpr quant_formula formula = formula_of(Type);
  static constexpr std::size_t inputs = formula.scale_values == 16 ? 16 : 32;

  QUIRE_INLINE zmm_int8_blocks(const matmul_task& task, std::size_t panel) noexcept
      : task_(task), panel_(panel) {
    const panel_layout layout = panel_layout_of(Type, task.cols);
    const std::byte* begin = task.panels + panel * task.panel_bytes;
    at_ = {begin, begin + layout.subs_at, begin + layout.codes_at};
    main_ = task.x_q8 + group_rows * block_cols;
    halves_ = task.x_q8 + task.cols / block_cols * group_rows * main_row_bytes;
#pragma GCC unroll 16
    for (__m512& sum : sums_) sum = _mm512_setzero_ps();
  }

  QUIRE_INLINE void unpack(std::byte* operand) noexcept {
    prefetch<Type>(at_, task_.panel_bytes);
    weight_block w;
    quire::unpack<Type>(at_, w);
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) {
      // Without minima the bytes are levels plus 128.
      const __m512i levels =
          formula.minimum ? w.quads[g] : _mm512_xor_si512(w.quads[g], _mm512_set1_epi8(-128));
      _mm512_store_si512(operand + 64 * g, levels);
    }
#pragma GCC unroll 2
    for (int part = 0; part < (inputs == 16 ? 2 : 1); ++part) {
      scale_[part] = w.scale[part];
      if constexpr (formula.minimum) minimum_[part] = w.minimum[part];
    }
    at_.codes += code_stride_of(Type);
    at_.subs += sub_stride_of(Type);
    if (scale_inputs_of(Type) == code_block || ++block_ % (scale_inputs_of(Type) / code_block) == 0)
      at_.scales += scale_stride_of(Type);
  }

  QUIRE_INLINE void add(const std::int32_t* low, const std::int32_t* high) noexcept {
    constexpr std::size_t field = group_rows * sizeof(float);
#pragma GCC unroll 16
    for (std::size_t row = 0; row < group_rows; ++row) {
      const std::byte* scales = main_ + 4 * row;
      const __m512 products = _mm512_cvtepi32_ps(_mm512_load_si512(low + 16 * row));
      if constexpr (inputs == 16) {
        __m512 both = _mm512_mul_ps(products, scale_[0]);
        both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(high + 16 * row)), scale_[1],
                               both);
        sums_[row] = _mm512_fmadd_ps(both, broadcast_float(scales), sums_[row]);
        if constexpr (formula.minimum) {
          const std::byte* sums = halves_ + 4 * row;
          sums_[row] = _mm512_fmadd_ps(minimum_[0], broadcast_float(sums), sums_[row]);
          sums_[row] = _mm512_fmadd_ps(minimum_[1], broadcast_float(sums + field), sums_[row]);
        }
      } else {
        const __m512 scale = _mm512_mul_ps(scale_[0], broadcast_float(scales));
        sums_[row] = _mm512_fmadd_ps(products, scale, sums_[row]);
        if constexpr (formula.minimum)
          sums_[row] = _mm512_fmadd_ps(minimum_[0], broadcast_float(scales + field), sums_[row]);
      }
    }
    main_ += group_rows * main_row_bytes;
    halves_ += group_rows * half_row_bytes;
  }

  QUIRE_INLINE void store() noexcept {
    store_sums<group_rows>(task_, panel_, sums_);
  }

 private:
  const matmul_task& task_;
  std::size_t panel_;
  std::size_t block_ = 0;
  panel_cursor at_;
  const std::byte* main_;  // the scales of the block of the group
  const std::byte* halves_;
  __m512 scale_[2];
  __m512 minimum_[2];
  __m512 sums_[group_rows];
};

template <class Tiles, tensor_type Type>
void product(const matmul_task& task) noexcept {
  if (task.num_rows == group_rows)
    amx_int8_product<Tiles, zmm_int8_blocks<Type>>(task);
  else
    avx512_vnni_product<Type>(task);
}

template <class Tiles>
constexpr matmul_kernels make_table() {
  matmul_kernels table;
  table.int8_instruction = "vpdpbusd zmm, whole groups of 16 rows tdpbssd";
  table.f32_instruction = "vfmadd zmm";
  table.wide_instruction = "tdpbf16ps";
  using core = amx_bf16_core<Tiles>;
  for_each_int8_type([&](auto type) {
    table.set_product(type, product<Tiles, type>);
    table.set_wide_product(type, wide_product<core, zmm_bf16_weights<type>>, amx_wide_rows);
  });
  table.set_product(tensor_type::f32, avx512_f32_product);
  table.set_product(tensor_type::f16, avx512_f16_product);
  table.set_product(tensor_type::bf16, avx512_bf16_product);
  using enum tensor_type;
  table.set_wide_product(f16, wide_product<core, zmm_bf16_weights<f16>>, amx_wide_rows);
  table.set_wide_product(bf16, wide_product<core, zmm_bf16_weights<bf16>>, amx_wide_rows);
  table.quantize = avx512_quantize;
  table.round_bf16 = avx512_round_bf16;
  table.normalize = avx512_normalize;
  return table;
}

#undef QUIRE_INLINE

}  // namespace

constinit const matmul_kernels amx_matmul = make_table<hardware_tiles>();
constinit const matmul_kernels amx_software_matmul = make_table<software_tiles>();

}  // namespace quire

#pragma GCC pop_options
