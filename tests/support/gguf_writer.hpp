// Writes small GGUF v3 files in memory, for tests that need one with known or hostile content.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "models/gguf.hpp"

namespace quire::testing {

class gguf_writer {
 public:
  explicit gguf_writer(std::uint32_t version = 3) : version_(version) {}

  gguf_writer& add_u32(std::string_view key, std::uint32_t v) {
    return add(key, gguf_type::u32, v);
  }
  gguf_writer& add_u64(std::string_view key, std::uint64_t v) {
    return add(key, gguf_type::u64, v);
  }
  gguf_writer& add_i32(std::string_view key, std::int32_t v) { return add(key, gguf_type::i32, v); }
  gguf_writer& add_f32(std::string_view key, float v) { return add(key, gguf_type::f32, v); }
  gguf_writer& add_bool(std::string_view key, bool v) {
    return add(key, gguf_type::boolean, static_cast<std::uint8_t>(v));
  }
  gguf_writer& add_string(std::string_view key, std::string_view v) {
    begin(key, gguf_type::string);
    put_string(entries_, v);
    return *this;
  }
  gguf_writer& add_strings(std::string_view key, std::span<const std::string> values) {
    begin_array(key, gguf_type::string, values.size());
    for (const auto& v : values) put_string(entries_, v);
    return *this;
  }
  gguf_writer& add_i32s(std::string_view key, std::span<const std::int32_t> values) {
    begin_array(key, gguf_type::i32, values.size());
    for (const auto v : values) put(entries_, v);
    return *this;
  }
  gguf_writer& add_f32s(std::string_view key, std::span<const float> values) {
    begin_array(key, gguf_type::f32, values.size());
    for (const auto v : values) put(entries_, v);
    return *this;
  }
  /// Adds a key with a type number and raw value bytes, which may be nonsense.
  gguf_writer& add_raw(std::string_view key, std::uint32_t type, std::string_view value) {
    put_string(entries_, key);
    put(entries_, type);
    entries_ += value;
    ++num_entries_;
    return *this;
  }
  /// Adds a tensor; its data is placed after the last one, at a multiple of 32.
  gguf_writer& add_tensor(std::string_view name, std::span<const std::uint64_t> dims,
                          std::uint32_t type, std::string_view data) {
    data_.resize((data_.size() + 31) / 32 * 32);
    add_tensor_at(name, dims, type, data_.size());
    data_ += data;
    return *this;
  }
  /// Adds a tensor whose data offset is as claimed, with no data of its own.
  gguf_writer& add_tensor_at(std::string_view name, std::span<const std::uint64_t> dims,
                             std::uint32_t type, std::uint64_t offset) {
    put_string(tensors_, name);
    put(tensors_, static_cast<std::uint32_t>(dims.size()));
    for (const auto dim : dims) put(tensors_, dim);
    put(tensors_, type);
    put(tensors_, offset);
    ++num_tensors_;
    return *this;
  }

  /// Returns the file's bytes.
  std::string bytes() const {
    std::string out = "GGUF";
    put(out, version_);
    put(out, num_tensors_);
    put(out, num_entries_);
    out += entries_ + tensors_;
    out.resize((out.size() + 31) / 32 * 32);
    return out + data_;
  }

 private:
  template <class T>
  static void put(std::string& out, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    out.append(raw, sizeof(T));
  }
  static void put_string(std::string& out, std::string_view text) {
    put(out, std::uint64_t{text.size()});
    out += text;
  }
  void begin(std::string_view key, gguf_type type) {
    put_string(entries_, key);
    put(entries_, static_cast<std::uint32_t>(type));
    ++num_entries_;
  }
  void begin_array(std::string_view key, gguf_type element, std::uint64_t count) {
    begin(key, gguf_type::array);
    put(entries_, static_cast<std::uint32_t>(element));
    put(entries_, count);
  }
  template <class T>
  gguf_writer& add(std::string_view key, gguf_type type, T value) {
    begin(key, type);
    put(entries_, value);
    return *this;
  }

  std::uint32_t version_;
  std::uint64_t num_entries_ = 0;
  std::uint64_t num_tensors_ = 0;
  std::string entries_;
  std::string tensors_;
  std::string data_;
};

/// Views a string's characters as bytes.
inline std::span<const std::byte> as_byte_span(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace quire::testing
