// The tensor types of GGUF files that quire knows, by their number in the file format.
// Source: the GGUF specification's ggml_type enumeration.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace quire {

/// A tensor's element encoding. Values are those stored in GGUF files.
enum class tensor_type : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
};

/// How values of one type lie in a file: `block_values` consecutive values in `block_bytes` bytes.
struct tensor_type_traits {
  tensor_type type;
  std::string_view name;     ///< as GGUF tools print it, for example "Q4_K"
  std::size_t block_values;  ///< values per block: 1, 32 or 256
  std::size_t block_bytes;   ///< bytes per block
  bool supported;            ///< whether pack() and dequantize_row() accept it
};

/// Returns the traits of a type number read from a file, or nullptr when it is unknown.
const tensor_type_traits* find_tensor_type(std::uint32_t number) noexcept;

/// Returns the traits of a known type.
const tensor_type_traits& traits_of(tensor_type type) noexcept;

/// Returns all known types, in the order of their numbers.
std::span<const tensor_type_traits> tensor_types() noexcept;

}  // namespace quire
