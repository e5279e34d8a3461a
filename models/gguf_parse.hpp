// The parsing half of models/gguf.hpp: bytes to a validated index of entries and tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/error.hpp"
#include "models/gguf.hpp"

namespace quire {

/// What a GGUF file says, as views into its bytes.
struct gguf_index {
  std::uint32_t version = 0;
  std::uint32_t alignment = 32;
  std::uint64_t data_start = 0;  ///< where tensor data begins, from the start of the file
  std::vector<gguf_entry> entries;
  std::vector<gguf_tensor> tensors;
  std::vector<std::uint32_t> entries_by_key;   ///< indices of entries, sorted by key
  std::vector<std::uint32_t> tensors_by_name;  ///< indices of tensors, sorted by name
};

/// Parses and validates. Allocates at most a small multiple of bytes.size(), whatever the counts in
/// the file claim. Errors: invalid_file, naming the thing and its byte offset.
result<gguf_index> parse_gguf(std::span<const std::byte> bytes);

/// Returns the size in bytes of one value of a type, 0 for strings and arrays.
std::size_t gguf_type_bytes(gguf_type type) noexcept;

/// Returns the name that GGUF's documents use, for example "uint32".
std::string_view gguf_type_name(gguf_type type) noexcept;

}  // namespace quire
