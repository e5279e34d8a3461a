// Geometry of a page of keys and values, shared by the store (memory/) and the attention kernels.
//
// A page holds `page_tokens` tokens of all layers:
//   [layer][k | v][kv_head][token][row bytes]
// in one contiguous region, so that a copy, a move or a park is one operation. A row is the
// head_dim values of one token and one head. K and V may have different types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace quire {

/// How a row of keys or values is encoded.
///   f32, f16: head_dim values.
///   q8: per 32 values one scale (16 bits) and 32 int8; scale = max|v| / 127.
///   q4: per 32 values one scale and 16 bytes; scale = max|v| / 7, two's complement nibbles;
///       byte j of a block holds value j in its low half and value j + 16 in its high half.
/// The last block of a row is padded with zeros when head_dim is not a multiple of 32.
/// Within a quantized row all scales come first, then all quants, so that loads stay aligned.
///
/// A scale is the upper 16 of the lower 31 bits of an f32, rounded towards zero: 8 bits of exponent
/// and 8 of mantissa, no sign. Where a half would overflow or fade out, this keeps the error of a
/// block within max|v| / 254 (q8) or max|v| / 14 (q4) for all finite values. A block with all
/// |v| < 1e-10 has scale 0 and reads back as zeros.
enum class kv_type : std::uint8_t { f32, f16, q8, q4 };

/// The number of types, for tables indexed by them.
inline constexpr std::size_t num_kv_types = 4;

/// Blocks whose values are all below this are stored as zeros.
inline constexpr float kv_smallest = 1e-10f;

/// Values per quantization block of a row.
inline constexpr std::size_t kv_block_values = 32;

std::string_view kv_type_name(kv_type type) noexcept;
std::optional<kv_type> parse_kv_type(std::string_view name) noexcept;

/// The types of keys and values of one store.
struct kv_types {
  kv_type k = kv_type::q8;
  kv_type v = kv_type::q8;
  friend bool operator==(kv_types, kv_types) = default;
};

/// Reads what people ask for: one type for both, or K/V as in q8/q4. A plain "q4" is q8 keys with
/// q4 values, because scores do not survive q4 keys; who wants those writes q4/q4. Nothing when it
/// is neither.
std::optional<kv_types> parse_kv_types(std::string_view text) noexcept;

/// Returns the shortest text that parse_kv_types reads as these.
std::string kv_types_name(kv_types types);

/// Returns the bytes of one row of head_dim values.
std::size_t kv_row_bytes(kv_type type, std::size_t head_dim) noexcept;

/// Which half of a layer's share of the page.
enum class kv_part : std::uint8_t { key, value };

/// The validated geometry of every page of one store.
struct kv_layout {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;      ///< values per row
  std::uint32_t page_tokens = 16;  ///< tokens per page
  kv_type type_k = kv_type::f16;
  kv_type type_v = kv_type::f16;
  std::size_t row_bytes_k = 0;
  std::size_t row_bytes_v = 0;
  std::size_t page_bytes = 0;  ///< a multiple of 64

  /// Checks the figures and fills the derived sizes. Errors: invalid_argument (a zero, or
  /// overflow).
  static result<kv_layout> make(std::uint32_t layers, std::uint32_t kv_heads,
                                std::uint32_t head_dim, std::uint32_t page_tokens, kv_type type_k,
                                kv_type type_v);

  std::size_t row_bytes(kv_part part) const noexcept {
    return part == kv_part::key ? row_bytes_k : row_bytes_v;
  }
  kv_type type(kv_part part) const noexcept { return part == kv_part::key ? type_k : type_v; }

  /// Returns the byte offset within a page of token 0's row; later tokens follow at
  /// row_bytes(part).
  std::size_t rows_offset(std::uint32_t layer, kv_part part, std::uint32_t kv_head) const noexcept {
    const std::size_t layer_bytes =
        static_cast<std::size_t>(kv_heads) * page_tokens * (row_bytes_k + row_bytes_v);
    const std::size_t values_at =
        part == kv_part::key ? 0 : static_cast<std::size_t>(kv_heads) * page_tokens * row_bytes_k;
    return layer * layer_bytes + values_at + kv_head * page_tokens * row_bytes(part);
  }

  /// Bytes that one token takes in a page, all layers, keys and values.
  std::size_t token_bytes() const noexcept {
    return static_cast<std::size_t>(layers) * kv_heads * (row_bytes_k + row_bytes_v);
  }
  /// Bytes of the same page if all values were f32, for reporting savings.
  std::size_t f32_page_bytes() const noexcept {
    return std::size_t{2} * layers * kv_heads * page_tokens * head_dim * sizeof(float);
  }
};

}  // namespace quire
