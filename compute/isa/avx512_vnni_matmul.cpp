// Matrix products on AVX-512 with VNNI: 16 outputs per register, up to 16 rows per pass.
//
// A block of 16 outputs x 32 inputs is unpacked once into 8 registers of unsigned bytes and used for
// all rows of the group, whose f32 sums stay in registers. Weights without minima are stored plus 128;
// the integer sum then starts at -128 times the sum of the activations (see matmul_kernels.hpp).
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "compute/isa/prepare.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"

// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#include <immintrin.h>

namespace quire {

namespace {

#define QUIRE_INLINE [[gnu::always_inline]] inline

QUIRE_INLINE __m512i broadcast_int(const std::byte* at) noexcept {
  int value;
  std::memcpy(&value, at, sizeof value);
  return _mm512_set1_epi32(value);
}

QUIRE_INLINE __m512 broadcast_float(const std::byte* at) noexcept {
  float value;
  std::memcpy(&value, at, sizeof value);
  return _mm512_set1_ps(value);
}

QUIRE_INLINE __m512i load_line(const std::byte* at) noexcept { return _mm512_load_si512(at); }

QUIRE_INLINE __m512 load_halves(const std::byte* at) noexcept {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
}

QUIRE_INLINE __m128i load_bytes(const std::byte* at) noexcept {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(at));
}

QUIRE_INLINE __m512 signed_bytes(const std::byte* at) noexcept {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(at)));
}

QUIRE_INLINE __m512 unsigned_bytes(__m128i bytes) noexcept {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

/// 16 outputs x 32 inputs, ready for the dot products.
struct weight_block {
  __m512i quads[8];    // unsigned; plus 128 - offset where the type has no minima
  __m512 scale[2];     // per half of the block where the type has a scale per 16, else [0]
  __m512 minimum[2];   // to be added, times the sum of the activations
};

template <int Shift>
QUIRE_INLINE __m512i shift_right(__m512i v) noexcept {
  if constexpr (Shift > 0)
    return _mm512_srli_epi16(v, Shift);
  else if constexpr (Shift < 0)
    return _mm512_slli_epi16(v, -Shift);
  else
    return v;
}

/// Returns low | (bits & mask).
QUIRE_INLINE __m512i or_masked(__m512i low, __m512i bits, __m512i mask) noexcept {
  return _mm512_ternarylogic_epi32(low, bits, mask, 0xf8);
}

/// Unpacks the codes of quad Quad.
template <unsigned Bits, int Quad>
QUIRE_INLINE __m512i quad_codes(const std::byte* codes) noexcept {
  if constexpr (Bits == 8) {
    return load_line(codes + Quad * 64);
  } else if constexpr (Bits >= 4) {
    const __m512i line = load_line(codes + Quad % 4 * 64);
    const __m512i low = _mm512_and_si512(shift_right<Quad / 4 * 4>(line), _mm512_set1_epi8(15));
    if constexpr (Bits == 5)
      return or_masked(low, shift_right<Quad - 4>(load_line(codes + 256)), _mm512_set1_epi8(0x10));
    else if constexpr (Bits == 6)
      return or_masked(low, shift_right<2 * (Quad % 4) - 4>(load_line(codes + 256 + Quad / 4 * 64)),
                       _mm512_set1_epi8(0x30));
    else
      return low;
  } else {
    const __m512i line = load_line(codes + Quad / 4 * 64);
    const __m512i low = _mm512_and_si512(shift_right<2 * (Quad % 4)>(line), _mm512_set1_epi8(3));
    if constexpr (Bits == 3)
      return or_masked(low, shift_right<Quad - 2>(load_line(codes + 128)), _mm512_set1_epi8(4));
    else
      return low;
  }
}

template <tensor_type Type, int Quad>
QUIRE_INLINE __m512i unpack_quad(const std::byte* codes) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  const __m512i code = quad_codes<formula.bits, Quad>(codes);
  if constexpr (formula.table) {
    const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(iq4_levels.data()));
    const __m512i biased =
        _mm512_xor_si512(_mm512_broadcast_i32x4(levels), _mm512_set1_epi8(-128));
    return _mm512_shuffle_epi8(biased, code);
  } else if constexpr (formula.minimum || formula.bits == 8) {
    return code;
  } else {
    return _mm512_add_epi8(code, _mm512_set1_epi8(static_cast<char>(128 - formula.offset)));
  }
}

/// Where the sections of a panel have got to.
struct panel_cursor {
  const std::byte* scales;
  const std::byte* subs;
  const std::byte* codes;
};

template <tensor_type Type>
QUIRE_INLINE void unpack_scales(const panel_cursor& at, weight_block& w) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  const __m512 d = load_halves(at.scales);
  if constexpr (formula.scale_values == 0) {
    w.scale[0] = d;
    if constexpr (formula.minimum) w.minimum[0] = load_halves(at.scales + 32);
  } else if constexpr (!formula.minimum) {
    w.scale[0] = _mm512_mul_ps(d, signed_bytes(at.subs));
    if constexpr (formula.scale_values == 16)
      w.scale[1] = _mm512_mul_ps(d, signed_bytes(at.subs + 16));
  } else {
    const __m512 m = _mm512_sub_ps(_mm512_setzero_ps(), load_halves(at.scales + 32));
    if constexpr (formula.scale_values == 32) {
      w.scale[0] = _mm512_mul_ps(d, unsigned_bytes(load_bytes(at.subs)));
      w.minimum[0] = _mm512_mul_ps(m, unsigned_bytes(load_bytes(at.subs + 16)));
    } else {
      for (int part = 0; part < 2; ++part) {
        const __m128i bytes = load_bytes(at.subs + 16 * part);
        const __m128i mask = _mm_set1_epi8(15);
        w.scale[part] = _mm512_mul_ps(d, unsigned_bytes(_mm_and_si128(bytes, mask)));
        w.minimum[part] =
            _mm512_mul_ps(m, unsigned_bytes(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask)));
      }
    }
  }
}

template <tensor_type Type>
QUIRE_INLINE void unpack(const panel_cursor& at, weight_block& w) noexcept {
  w.quads[0] = unpack_quad<Type, 0>(at.codes);
  w.quads[1] = unpack_quad<Type, 1>(at.codes);
  w.quads[2] = unpack_quad<Type, 2>(at.codes);
  w.quads[3] = unpack_quad<Type, 3>(at.codes);
  w.quads[4] = unpack_quad<Type, 4>(at.codes);
  w.quads[5] = unpack_quad<Type, 5>(at.codes);
  w.quads[6] = unpack_quad<Type, 6>(at.codes);
  w.quads[7] = unpack_quad<Type, 7>(at.codes);
  unpack_scales<Type>(at, w);
}

/// Asks for the same block of the next panel: the hardware's prefetcher alone does not keep memory busy
/// while a panel is multiplied.
template <tensor_type Type>
QUIRE_INLINE void prefetch(const panel_cursor& at, std::size_t panel_bytes) noexcept {
  constexpr auto stride = static_cast<int>(code_stride_of(Type));
#pragma GCC unroll 8
  for (int i = 0; i < stride; i += 64) __builtin_prefetch(at.codes + panel_bytes + i);
  __builtin_prefetch(at.scales + panel_bytes);
  if constexpr (sub_stride_of(Type) != 0) __builtin_prefetch(at.subs + panel_bytes);
}

/// Adds the dot products of quads [First, Last) with one row's 32 activations.
template <int First, int Last>
QUIRE_INLINE __m512i dot(__m512i sum, const weight_block& w, const std::byte* q) noexcept {
#pragma GCC unroll 8
  for (int g = First; g < Last; ++g)
    sum = _mm512_dpbusd_epi32(sum, w.quads[g], broadcast_int(q + 4 * g));
  return sum;
}

/// Adds one block of one row: `main` and `halves` are the block's two sections of the group.
template <tensor_type Type, int Rows>
QUIRE_INLINE __m512 add_row(__m512 sum, const weight_block& w, const std::byte* main,
                            const std::byte* halves, int row) noexcept {
  constexpr quant_formula formula = formula_of(Type);
  const std::byte* q = main + 32 * row;
  const std::byte* scales = main + 32 * Rows + 4 * row;
  if constexpr (formula.scale_values == 16) {
    const std::byte* half_sums = halves + 4 * row;
    const std::byte* half_starts = halves + 8 * Rows + 4 * row;
    __m512i low = formula.minimum ? _mm512_setzero_si512() : broadcast_int(half_starts);
    __m512i high = formula.minimum ? _mm512_setzero_si512() : broadcast_int(half_starts + 4 * Rows);
    low = dot<0, 4>(low, w, q);
    high = dot<4, 8>(high, w, q);
    __m512 both = _mm512_mul_ps(_mm512_cvtepi32_ps(low), w.scale[0]);
    both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), w.scale[1], both);
    sum = _mm512_fmadd_ps(both, broadcast_float(scales), sum);
    if constexpr (formula.minimum) {
      sum = _mm512_fmadd_ps(w.minimum[0], broadcast_float(half_sums), sum);
      sum = _mm512_fmadd_ps(w.minimum[1], broadcast_float(half_sums + 4 * Rows), sum);
    }
  } else {
    __m512i products = formula.minimum ? _mm512_setzero_si512() : broadcast_int(scales + 8 * Rows);
    products = dot<0, 8>(products, w, q);
    const __m512 scale = _mm512_mul_ps(w.scale[0], broadcast_float(scales));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum);
    if constexpr (formula.minimum)
      sum = _mm512_fmadd_ps(w.minimum[0], broadcast_float(scales + 4 * Rows), sum);
  }
  return sum;
}

template <int Rows>
QUIRE_INLINE void store_sums(const matmul_task& task, std::size_t panel,
                             const __m512 (&sums)[Rows]) noexcept {
  const std::size_t outputs = std::min(panel_outputs, task.num_outputs - panel * panel_outputs);
  const auto mask = static_cast<__mmask16>((1u << outputs) - 1u);
  float* out = task.out + panel * panel_outputs;
#pragma GCC unroll 16
  for (int row = 0; row < Rows; ++row) {
    if (static_cast<std::size_t>(row) == task.num_rows) break;
    __m512 sum = sums[row];
    if (task.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, out));
    _mm512_mask_storeu_ps(out, mask, sum);
    out += task.out_stride;
  }
}

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
#pragma GCC unroll 16
      for (int row = 0; row < Rows; ++row)
        sums[row] = add_row<Type, Rows>(sums[row], w, main, halves, row);
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

template <tensor_type Type>
void quantized_product(const matmul_task& task) noexcept {
  switch (padded_rows(task.num_rows)) {
    case 1: return multiply_panels<Type, 1>(task);
    case 2: return multiply_panels<Type, 2>(task);
    case 3: return multiply_panels<Type, 3>(task);
    case 4: return multiply_panels<Type, 4>(task);
    case 6: return multiply_panels<Type, 6>(task);
    case 8: return multiply_panels<Type, 8>(task);
    case 12: return multiply_panels<Type, 12>(task);
    default: return multiply_panels<Type, 16>(task);
  }
}

/// Loads 16 float weights of element type Element.
template <tensor_type Type>
QUIRE_INLINE __m512 load_weights(const std::byte* at) noexcept {
  if constexpr (Type == tensor_type::f32) {
    return _mm512_load_ps(at);
  } else if constexpr (Type == tensor_type::f16) {
    return load_halves(at);
  } else {
    const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

/// Rows x Panels at once, so that even one row has several chains of sums in flight.
template <tensor_type Type, int Rows, int Panels>
QUIRE_INLINE void multiply_floats(const matmul_task& task, std::size_t panel) noexcept {
  constexpr std::size_t line = panel_outputs * (Type == tensor_type::f32 ? 4 : 2);
  const std::byte* w = task.panels + panel * task.panel_bytes;
  const std::size_t stride = task.x_stride;
  const float* x = task.x_f32;
  __m512 sums[Panels][Rows];
#pragma GCC unroll 4
  for (int p = 0; p < Panels; ++p)
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) sums[p][row] = _mm512_setzero_ps();
  for (std::size_t k = 0; k < task.cols; ++k, w += line) {
    __m512 weights[Panels];
#pragma GCC unroll 4
    for (std::size_t p = 0; p < Panels; ++p) {
      weights[p] = load_weights<Type>(w + p * task.panel_bytes);
      __builtin_prefetch(w + p * task.panel_bytes + 16 * line);
    }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const __m512 value = _mm512_set1_ps(x[static_cast<std::size_t>(row) * stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < Panels; ++p)
        sums[p][row] = _mm512_fmadd_ps(weights[p], value, sums[p][row]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < Panels; ++p)
    store_sums<Rows>(task, panel + static_cast<std::size_t>(p), sums[p]);
}

template <tensor_type Type, int Rows, int Panels>
void float_rows(matmul_task task, std::size_t first_row) noexcept {
  task.x_f32 += first_row * task.x_stride;
  task.out += first_row * task.out_stride;
  task.num_rows = Rows;
  std::size_t panel = 0;
  for (; panel + Panels <= task.num_panels; panel += Panels)
    multiply_floats<Type, Rows, Panels>(task, panel);
  for (; panel < task.num_panels; ++panel) multiply_floats<Type, Rows, 1>(task, panel);
}

template <tensor_type Type>
void float_product(const matmul_task& task) noexcept {
  std::size_t row = 0;
  for (; row + 8 <= task.num_rows; row += 8) float_rows<Type, 8, 2>(task, row);
  for (; row + 4 <= task.num_rows; row += 4) float_rows<Type, 4, 4>(task, row);
  for (; row + 2 <= task.num_rows; row += 2) float_rows<Type, 2, 4>(task, row);
  for (; row < task.num_rows; ++row) float_rows<Type, 1, 4>(task, row);
}

template <tensor_type... Types>
constexpr matmul_kernels make_table() {
  matmul_kernels table;
  ((table.product[static_cast<std::size_t>(Types)] = quantized_product<Types>), ...);
  table.product[static_cast<std::size_t>(tensor_type::f32)] = float_product<tensor_type::f32>;
  table.product[static_cast<std::size_t>(tensor_type::f16)] = float_product<tensor_type::f16>;
  table.product[static_cast<std::size_t>(tensor_type::bf16)] = float_product<tensor_type::bf16>;
  table.quantize = avx512_quantize;
  table.normalize = avx512_normalize;
  return table;
}

#undef QUIRE_INLINE

}  // namespace

using enum tensor_type;
constinit const matmul_kernels avx512_vnni_matmul =
    make_table<q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs>();

}  // namespace quire

#pragma GCC pop_options
