// Matrix products on AVX-512 with BF16: vdpbf16ps for many rows of float weights stored in 16 bits,
// and what AVX-512 VNNI does best from there.
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
#include "compute/isa/wide_matmul.hpp"
#include "compute/isa/zmm_bf16.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

/// The `Core` of wide_matmul.hpp on vector registers: up to 8 rows times up to 2 panels at once.
struct zmm_bf16_core {
  static void begin() noexcept {}

  template <int Groups, int Panels>
  static void multiply(const std::byte* const (&x)[Groups], const std::byte* const (&w)[Panels],
                       std::size_t blocks, const output_tile (&out)[Groups][Panels]) noexcept {
    for (int g = 0; g < Groups; ++g) {
      std::size_t row = 0;
      for (; row + 4 < out[g][0].rows; row += 8)
        multiply_rows<8, Panels>(x[g] + 64 * row, w, blocks, out[g], row);
      if (row < out[g][0].rows) multiply_rows<4, Panels>(x[g] + 64 * row, w, blocks, out[g], row);
    }
  }

 private:
  template <int Rows, int Panels>
  static void multiply_rows(const std::byte* x, const std::byte* const (&w)[Panels],
                            std::size_t blocks, const output_tile (&out)[Panels],
                            std::size_t row) noexcept {
    __m512 sums[Panels][Rows];
    __mmask16 masks[Panels];
    const std::size_t rows = std::min<std::size_t>(Rows, out[0].rows - row);
#pragma GCC unroll 2
    for (int p = 0; p < Panels; ++p) {
      masks[p] = static_cast<__mmask16>((1u << out[p].outputs) - 1u);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < Rows; ++r)
        sums[p][r] = out[p].begin || r >= rows
                         ? _mm512_setzero_ps()
                         : _mm512_maskz_loadu_ps(masks[p], out[p].at + (row + r) * out[p].stride);
    }
    for (std::size_t at = 0; at < blocks * bf16_tile_bytes; at += bf16_tile_bytes)
#pragma GCC unroll 4
      for (std::size_t pair = 0; pair < 16; ++pair) {
        __m512bh weights[Panels];
#pragma GCC unroll 2
        for (int p = 0; p < Panels; ++p)
          weights[p] = reinterpret_cast<__m512bh>(_mm512_load_si512(w[p] + at + 64 * pair));
#pragma GCC unroll 8
        for (std::size_t r = 0; r < Rows; ++r) {
          const auto values = reinterpret_cast<__m512bh>(broadcast_int(x + at + 64 * r + 4 * pair));
#pragma GCC unroll 2
          for (int p = 0; p < Panels; ++p)
            sums[p][r] = _mm512_dpbf16_ps(sums[p][r], weights[p], values);
        }
      }
#pragma GCC unroll 2
    for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 8
      for (std::size_t r = 0; r < Rows; ++r)
        if (r < rows)
          _mm512_mask_storeu_ps(out[p].at + (row + r) * out[p].stride, masks[p], sums[p][r]);
  }
};

/// Rounds 32 columns of one row, of which `cols` exist.
QUIRE_INLINE void round_block(const float* x, std::size_t cols, std::byte* at) noexcept {
  const auto low = static_cast<__mmask16>(cols >= 16 ? 0xffffu : (1u << cols) - 1u);
  const auto high = static_cast<__mmask16>(cols <= 16   ? 0u
                                           : cols >= 32 ? 0xffffu
                                                        : (1u << (cols - 16)) - 1u);
  const __m512bh values =
      _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, x + 16), _mm512_maskz_loadu_ps(low, x));
  _mm512_store_si512(at, reinterpret_cast<__m512i>(values));
}

#undef QUIRE_INLINE

}  // namespace

void avx512_round_bf16(const float* x, std::size_t stride, std::size_t num_rows, std::size_t cols,
                       std::byte* group) noexcept {
  for (std::size_t k = 0; k < cols; k += block_cols, group += bf16_tile_bytes) {
    for (std::size_t row = 0; row < num_rows; ++row)
      round_block(x + row * stride + k, cols - k, group + 64 * row);
    if (num_rows < group_rows) std::memset(group + 64 * num_rows, 0, 64 * (group_rows - num_rows));
  }
}

namespace {

constexpr matmul_kernels make_table() {
  matmul_kernels table;
  table.int8_instruction = "vpdpbusd zmm";
  table.f32_instruction = "vfmadd zmm";
  table.wide_instruction = "vdpbf16ps zmm";
  set_vnni_products(table);
  table.set_product(tensor_type::f32, avx512_f32_product);
  table.set_product(tensor_type::f16, avx512_f16_product);
  table.set_product(tensor_type::bf16, avx512_bf16_product);
  using enum tensor_type;
  // Measured on Zen 5, 2048 x 2048: 8 rows take as long either way, F16 a little longer.
  table.set_wide_product(f16, wide_product<zmm_bf16_core, zmm_bf16_weights<f16>>, 10);
  table.set_wide_product(bf16, wide_product<zmm_bf16_core, zmm_bf16_weights<bf16>>, 8);
  table.quantize = avx512_quantize;
  table.round_bf16 = avx512_round_bf16;
  table.normalize = avx512_normalize;
  return table;
}

}  // namespace

using enum tensor_type;
constinit const matmul_kernels avx512_bf16_matmul = make_table();

}  // namespace quire

#pragma GCC pop_options
