// Reads GGUF v2 and v3 files, memory-mapped. Every offset, count, length and string is validated
// against the file before use. Source: the GGUF specification.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "compute/tensor_type.hpp"
#include "core/error.hpp"

namespace quire {

/// The element types of GGUF metadata arrays and values.
enum class gguf_type : std::uint32_t {
  u8 = 0,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

/// An array in place in the file: elements of a fixed size, or strings (indexed on open).
struct gguf_array {
  gguf_type element = gguf_type::u8;
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;       ///< the elements, unaligned, little-endian
  std::vector<std::string_view> strings;  ///< filled when element is string
};

/// One metadata value; integers and bools are widened, strings point into the mapping.
using gguf_value =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, gguf_array>;

struct gguf_entry {
  std::string_view key;
  gguf_type type = gguf_type::u8;
  gguf_value value;
};

struct gguf_tensor {
  std::string_view name;
  std::uint32_t type_number = 0;  ///< as in the file; may be one that quire does not know
  std::array<std::uint64_t, 4> dims{1, 1, 1, 1};  ///< dims[0] varies fastest
  std::uint32_t num_dims = 0;
  std::uint64_t offset = 0;      ///< from the start of the file
  std::uint64_t size_bytes = 0;  ///< 0 when the type is unknown
  std::uint64_t num_values() const noexcept { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

/// An open model file. Views into it live as long as it does.
class gguf_file {
 public:
  /// Errors: io_error (cannot open), invalid_file (naming what is wrong and where).
  static result<gguf_file> open(const std::filesystem::path& path);
  /// Parses bytes held by the caller (tests and fuzzing). Errors: invalid_file.
  static result<gguf_file> parse(std::span<const std::byte> bytes);
  gguf_file(gguf_file&&) noexcept;
  gguf_file& operator=(gguf_file&&) noexcept;
  ~gguf_file();

  std::uint32_t version() const noexcept;
  std::uint64_t file_bytes() const noexcept;
  std::span<const gguf_entry> entries() const noexcept;
  std::span<const gguf_tensor> tensors() const noexcept;

  const gguf_value* find(std::string_view key) const noexcept;
  const gguf_tensor* find_tensor(std::string_view name) const noexcept;

  /// Typed lookups; nullopt when the key is missing or of another kind.
  std::optional<std::uint64_t> get_uint(std::string_view key) const noexcept;
  std::optional<double> get_float(std::string_view key) const noexcept;
  std::optional<bool> get_bool(std::string_view key) const noexcept;
  std::optional<std::string_view> get_string(std::string_view key) const noexcept;
  const gguf_array* get_array(std::string_view key) const noexcept;

  /// The file bytes of a tensor of a known type; validated at open.
  std::span<const std::byte> data(const gguf_tensor& tensor) const noexcept;

  /// Tells the system that the mapped bytes of a tensor are not needed any more.
  void drop(const gguf_tensor& tensor) const noexcept;

 private:
  struct impl;
  explicit gguf_file(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

}  // namespace quire
