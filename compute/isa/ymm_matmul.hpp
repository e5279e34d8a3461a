// Products of quantized weights on 256-bit registers: 8 outputs per register, up to 4 rows per
// pass.
//
// Included by one translation unit per ISA, under its target pragma, after <immintrin.h> and with
// QUIRE_YMM_TARGET defined (__AVX2__ does not exist in a pass that only preprocesses, as ccache's);
// `Dot` says how that ISA multiplies unsigned by signed bytes. With 16 registers the 8 quads of a
// weight block do not fit, so a quad is unpacked, used for all rows of the pass and dropped.
#pragma once

#ifdef QUIRE_YMM_TARGET

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

QUIRE_INLINE __m256i load_ymm(const std::byte* at) noexcept {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}

QUIRE_INLINE __m256i broadcast_int(const std::byte* at) noexcept {
  int value;
  std::memcpy(&value, at, sizeof value);
  return _mm256_set1_epi32(value);
}

QUIRE_INLINE __m256 broadcast_float(const std::byte* at) noexcept {
  float value;
  std::memcpy(&value, at, sizeof value);
  return _mm256_set1_ps(value);
}

QUIRE_INLINE __m256 load_halves(const std::byte* at) noexcept {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(at)));
}

QUIRE_INLINE __m128i load_8_bytes(const std::byte* at) noexcept {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
}

QUIRE_INLINE __m256 unsigned_bytes(__m128i bytes) noexcept {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

template <int Shift>
QUIRE_INLINE __m256i shift_right(__m256i v) noexcept {
  if constexpr (Shift > 0)
    return _mm256_srli_epi16(v, Shift);
  else if constexpr (Shift < 0)
    return _mm256_slli_epi16(v, -Shift);
  else
    return v;
}

QUIRE_INLINE __m256i field(__m256i v, int mask) noexcept {
  return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
}

/// Unpacks the codes of quad Quad for the 8 outputs that `codes` points at.
template <unsigned Bits, int Quad>
QUIRE_INLINE __m256i quad_codes(const std::byte* codes) noexcept {
  if constexpr (Bits == 8) {
    return load_ymm(codes + Quad * 64);
  } else if constexpr (Bits >= 4) {
    const __m256i low = field(shift_right<Quad / 4 * 4>(load_ymm(codes + Quad % 4 * 64)), 15);
    if constexpr (Bits == 5)
      return _mm256_or_si256(low, field(shift_right<Quad - 4>(load_ymm(codes + 256)), 0x10));
    else if constexpr (Bits == 6)
      return _mm256_or_si256(
          low, field(shift_right<2 * (Quad % 4) - 4>(load_ymm(codes + 256 + Quad / 4 * 64)), 0x30));
    else
      return low;
  } else {
    const __m256i low = field(shift_right<2 * (Quad % 4)>(load_ymm(codes + Quad / 4 * 64)), 3);
    if constexpr (Bits == 3)
      return _mm256_or_si256(low, field(shift_right<Quad - 2>(load_ymm(codes + 128)), 4));
    else
      return low;
  }
}

/// The IQ4 levels in both lanes, as signed bytes.
QUIRE_INLINE __m256i level_table() noexcept {
  return _mm256_broadcastsi128_si256(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(iq4_levels.data())));
}

/// Scales and minima of 8 outputs for one half of a block, or for the whole of it.
struct weight_scales {
  __m256 scale[2];
  __m256 minimum[2];
};

template <tensor_type Type>
QUIRE_INLINE weight_scales unpack_scales(const std::byte* scales, const std::byte* subs) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  weight_scales w;
  w.minimum[0] = w.minimum[1] = _mm256_setzero_ps();
  const __m256 d = load_halves(scales);
  w.scale[0] = w.scale[1] = d;
  __m256 m = _mm256_setzero_ps();
  if constexpr (formula.minimum) w.minimum[0] = m = load_halves(scales + 32);
  if constexpr (formula.scale_values != 0) {
    const __m256 negative_m = _mm256_sub_ps(_mm256_setzero_ps(), m);
    constexpr int parts = formula.scale_values == 16 ? 2 : 1;
    for (int part = 0; part < parts; ++part) {
      const __m128i bytes = load_8_bytes(subs + 16 * part);
      if constexpr (!formula.minimum) {
        w.scale[part] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
      } else if constexpr (parts == 1) {
        w.scale[0] = _mm256_mul_ps(d, unsigned_bytes(bytes));
        w.minimum[0] = _mm256_mul_ps(negative_m, unsigned_bytes(load_8_bytes(subs + 16)));
      } else {
        const __m128i mask = _mm_set1_epi8(15);
        w.scale[part] = _mm256_mul_ps(d, unsigned_bytes(_mm_and_si128(bytes, mask)));
        w.minimum[part] = _mm256_mul_ps(
            negative_m, unsigned_bytes(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask)));
      }
    }
  }
  return w;
}

/// Where the pass's rows have their shares of a block of the group (see matmul_kernels.hpp).
struct row_block {
  const std::byte* q;       // 32 bytes per row
  const std::byte* fields;  // scales; sums follow after `field` bytes, starts after twice that
  const std::byte* halves;  // the sums of both halves, then their starts, `field` bytes apart
  std::size_t field;
};

/// Adds quad First + Index of a block for all rows of the pass.
template <class Dot, tensor_type Type, int Rows, int First, int Index>
QUIRE_INLINE void add_quad(const std::byte* codes, const row_block& x,
                           typename Dot::template sum<Type> (&sums)[Rows]) noexcept {
  constexpr int quad = First + Index;
  const auto w = Dot::template prepare<Type>(quad_codes<formula_of(Type).bits, quad>(codes));
#pragma GCC unroll 4
  for (std::size_t row = 0; row < Rows; ++row)
    sums[row].template add<Index>(w, broadcast_int(x.q + 32 * row + 4 * quad));
}

/// Adds quads [First, Last) of a block for all rows of the pass, as floats without the scale.
template <class Dot, tensor_type Type, int Rows, int First, int Last>
QUIRE_INLINE void dot_quads(const std::byte* codes, const row_block& x, __m256 (&products)[Rows]) {
  constexpr quant_formula formula = formula_of(Type);
  constexpr bool whole = Last - First == 8;
  typename Dot::template sum<Type> sums[Rows];
#pragma GCC unroll 4
  for (std::size_t row = 0; row < Rows; ++row) {
    if constexpr (formula.minimum || !Dot::template sum<Type>::has_start) {
      sums[row].clear();
    } else {
      const std::byte* start =
          whole ? x.fields + 2 * x.field : x.halves + (First == 0 ? 2 : 3) * x.field;
      sums[row].begin(broadcast_int(start + 4 * row));
    }
  }
  add_quad<Dot, Type, Rows, First, 0>(codes, x, sums);
  add_quad<Dot, Type, Rows, First, 1>(codes, x, sums);
  add_quad<Dot, Type, Rows, First, 2>(codes, x, sums);
  add_quad<Dot, Type, Rows, First, 3>(codes, x, sums);
  if constexpr (whole) {
    add_quad<Dot, Type, Rows, First, 4>(codes, x, sums);
    add_quad<Dot, Type, Rows, First, 5>(codes, x, sums);
    add_quad<Dot, Type, Rows, First, 6>(codes, x, sums);
    add_quad<Dot, Type, Rows, First, 7>(codes, x, sums);
  }
#pragma GCC unroll 4
  for (std::size_t row = 0; row < Rows; ++row)
    products[row] = _mm256_cvtepi32_ps(sums[row].template total<Last - First>());
}

/// Scales the products of a block, or of half of one, and adds them to the sums.
template <tensor_type Type, int Rows>
QUIRE_INLINE void add_scaled(const __m256 (&products)[Rows], __m256 w_scale, __m256 w_minimum,
                             const std::byte* x_scales, const std::byte* x_sums,
                             __m256 (&sums)[Rows]) noexcept {
#pragma GCC unroll 4
  for (std::size_t row = 0; row < Rows; ++row) {
    const __m256 scale = _mm256_mul_ps(w_scale, broadcast_float(x_scales + 4 * row));
    sums[row] = _mm256_fmadd_ps(products[row], scale, sums[row]);
    if constexpr (formula_of(Type).minimum)
      sums[row] = _mm256_fmadd_ps(w_minimum, broadcast_float(x_sums + 4 * row), sums[row]);
  }
}

/// Adds one block to the sums of all rows of the pass.
template <class Dot, tensor_type Type, int Rows>
QUIRE_INLINE void add_block(const std::byte* codes, const weight_scales& w, const row_block& x,
                            __m256 (&sums)[Rows]) noexcept {
  __m256 products[Rows];
  if constexpr (formula_of(Type).scale_values == 16) {
    dot_quads<Dot, Type, Rows, 0, 4>(codes, x, products);
    add_scaled<Type, Rows>(products, w.scale[0], w.minimum[0], x.fields, x.halves, sums);
    dot_quads<Dot, Type, Rows, 4, 8>(codes, x, products);
    add_scaled<Type, Rows>(products, w.scale[1], w.minimum[1], x.fields, x.halves + x.field, sums);
  } else {
    dot_quads<Dot, Type, Rows, 0, 8>(codes, x, products);
    add_scaled<Type, Rows>(products, w.scale[0], w.minimum[0], x.fields, x.fields + x.field, sums);
  }
}

/// Stores the sums of 8 outputs.
template <int Rows>
QUIRE_INLINE void store_sums(const matmul_task& task, std::size_t first_row, std::size_t output,
                             const __m256 (&sums)[Rows]) noexcept {
  const std::size_t left = task.num_outputs - output;
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(
      _mm256_set1_epi32(static_cast<int>(std::min<std::size_t>(left, 8))), lanes);
#pragma GCC unroll 4
  for (std::size_t row = 0; row < Rows; ++row) {
    if (first_row + row >= task.num_rows) break;
    float* out = task.out + (first_row + row) * task.out_stride + output;
    __m256 sum = sums[row];
    if (task.add) sum = _mm256_add_ps(sum, _mm256_maskload_ps(out, mask));
    _mm256_maskstore_ps(out, mask, sum);
  }
}

/// Multiplies rows [first_row, first_row + Rows) with 8 outputs of a panel.
template <class Dot, tensor_type Type, int Rows>
void multiply_half_panel(const matmul_task& task, std::size_t panel, std::size_t half_panel,
                         std::size_t first_row) noexcept {
  const std::size_t output = panel * panel_outputs + 8 * half_panel;
  if (output >= task.num_outputs) return;
  const panel_layout layout = panel_layout_of(Type, task.cols);
  const std::byte* begin = task.panels + panel * task.panel_bytes;
  const std::byte* scales = begin + 16 * half_panel;
  const std::byte* subs = begin + layout.subs_at + 8 * half_panel;
  const std::byte* codes = begin + layout.codes_at + 32 * half_panel;
  const std::size_t blocks = task.cols / code_block;
  constexpr std::size_t scale_blocks = scale_inputs_of(Type) / code_block;
  const std::size_t rows = task.num_rows;
  row_block x{task.x_q8 + 32 * first_row, task.x_q8 + 32 * rows + 4 * first_row,
              task.x_q8 + blocks * rows * main_row_bytes + 4 * first_row, 4 * rows};
  __m256 sums[Rows];
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) sums[row] = _mm256_setzero_ps();
  for (std::size_t b = 0; b < blocks; ++b) {
    // The next panel's block, half of its lines in each half panel; see avx512_vnni_matmul.cpp.
    constexpr auto half_stride = static_cast<int>(code_stride_of(Type) / 2);
    const std::byte* next = codes - 32 * half_panel + task.panel_bytes + half_panel * half_stride;
#pragma GCC unroll 4
    for (int i = 0; i < half_stride; i += 64) __builtin_prefetch(next + i);
    __builtin_prefetch(scales + task.panel_bytes);
    const weight_scales w = unpack_scales<Type>(scales, subs);
    add_block<Dot, Type, Rows>(codes, w, x, sums);
    codes += code_stride_of(Type);
    subs += sub_stride_of(Type);
    if (scale_blocks == 1 || b % scale_blocks == scale_blocks - 1) scales += scale_stride_of(Type);
    x.q += rows * main_row_bytes;
    x.fields += rows * main_row_bytes;
    x.halves += rows * half_row_bytes;
  }
  store_sums<Rows>(task, first_row, output, sums);
}

/// The product of a table: passes of up to 4 rows over each half panel, while it is in the cache.
template <class Dot, tensor_type Type>
void quantized_product(const matmul_task& task) noexcept {
  for (std::size_t panel = 0; panel < task.num_panels; ++panel)
    for (std::size_t half_panel = 0; half_panel < 2; ++half_panel) {
      std::size_t row = 0;
      for (; row + 4 <= task.num_rows; row += 4)
        multiply_half_panel<Dot, Type, 4>(task, panel, half_panel, row);
      switch (task.num_rows - row) {
        case 3:
          multiply_half_panel<Dot, Type, 3>(task, panel, half_panel, row);
          break;
        case 2:
          multiply_half_panel<Dot, Type, 2>(task, panel, half_panel, row);
          break;
        case 1:
          multiply_half_panel<Dot, Type, 1>(task, panel, half_panel, row);
          break;
        default:
          break;
      }
    }
}

#undef QUIRE_INLINE

}  // namespace

}  // namespace quire

#endif
