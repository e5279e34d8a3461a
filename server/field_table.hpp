// Reads JSON fields by table, so that every field is checked and refused in the same words.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string_view>

#include "server/api_error.hpp"

namespace quire {

enum class field_type : std::uint8_t { boolean, integer, number, string, object, array };

/// The type and range of a field. For numbers `low` and `high` are inclusive; `above_low` excludes
/// low.
struct field_shape {
  std::string_view name;
  field_type type = field_type::boolean;
  double low = 0;
  double high = 0;
  bool above_low = false;
};

/// A field and where its value goes.
template <class Target>
struct field_rule {
  field_shape shape;
  void (*store)(Target&, const nlohmann::ordered_json&);
};

/// A field whose reading takes more than a type and a range.
template <class Target>
struct field_reader {
  std::string_view name;
  std::optional<api_error> (*read)(Target&, const nlohmann::ordered_json&);
};

/// Returns the field, or null when it is missing or JSON null: both mean "not given".
const nlohmann::ordered_json* given_field(const nlohmann::ordered_json& object,
                                          std::string_view name);

/// Returns why a value does not fit, naming field, expectation and value; nullopt when it fits.
std::optional<api_error> check_shape(const field_shape& shape, const nlohmann::ordered_json& value);

/// Returns a short form of a value for messages: at most 40 bytes.
std::string brief(const nlohmann::ordered_json& value);

/// Stores every given field of the table; stops at the first that does not fit.
template <class Target>
std::optional<api_error> read_fields(const nlohmann::ordered_json& object,
                                     std::span<const field_rule<Target>> rules, Target& target) {
  for (const auto& rule : rules) {
    const auto* value = given_field(object, rule.shape.name);
    if (value == nullptr) continue;
    if (auto failure = check_shape(rule.shape, *value)) return failure;
    rule.store(target, *value);
  }
  return std::nullopt;
}

template <class Target>
std::optional<api_error> read_fields(const nlohmann::ordered_json& object,
                                     std::span<const field_reader<Target>> readers,
                                     Target& target) {
  for (const auto& reader : readers) {
    const auto* value = given_field(object, reader.name);
    if (value == nullptr) continue;
    if (auto failure = reader.read(target, *value)) return failure;
  }
  return std::nullopt;
}

}  // namespace quire
