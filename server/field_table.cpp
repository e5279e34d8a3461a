#include "server/field_table.hpp"

#include <fmt/format.h>

#include <cmath>
#include <string>

namespace quire {
namespace {

std::string_view type_name(field_type type) {
  switch (type) {
    case field_type::boolean:
      return "a boolean";
    case field_type::integer:
      return "an integer";
    case field_type::number:
      return "a number";
    case field_type::string:
      return "a string";
    case field_type::object:
      return "an object";
    case field_type::array:
      return "an array";
  }
  return "a value";
}

bool has_type(const nlohmann::ordered_json& value, field_type type) {
  switch (type) {
    case field_type::boolean:
      return value.is_boolean();
    case field_type::integer:
      return value.is_number_integer();
    case field_type::number:
      return value.is_number();
    case field_type::string:
      return value.is_string();
    case field_type::object:
      return value.is_object();
    case field_type::array:
      return value.is_array();
  }
  return false;
}

}  // namespace

const nlohmann::ordered_json* given_field(const nlohmann::ordered_json& object,
                                          std::string_view name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string brief(const nlohmann::ordered_json& value) {
  constexpr std::size_t longest = 40;
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  auto text = value.dump(-1, ' ', true);
  if (text.size() > longest) text = text.substr(0, longest - 3) + "...";
  return text;
}

std::optional<api_error> check_shape(const field_shape& shape,
                                     const nlohmann::ordered_json& value) {
  const std::string name(shape.name);
  if (!has_type(value, shape.type))
    return invalid_value(
        name, fmt::format("'{}' must be {}, not {}.", name, type_name(shape.type), brief(value)));
  if (shape.type != field_type::integer && shape.type != field_type::number) return std::nullopt;
  const auto number = value.get<double>();
  const bool fits = std::isfinite(number) && number <= shape.high &&
                    (shape.above_low ? number > shape.low : number >= shape.low);
  if (fits) return std::nullopt;
  return invalid_value(name, fmt::format("'{}' must be {} {} and at most {}, not {}.", name,
                                         shape.above_low ? "above" : "at least", shape.low,
                                         shape.high, brief(value)));
}

}  // namespace quire
