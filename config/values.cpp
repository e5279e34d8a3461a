// Reads and prints the value of one key; the table in keys.cpp says what is legal.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "config/keys.hpp"

namespace quire {
namespace {

using problem = std::optional<std::string>;

std::string in_quotes(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

problem wrong_type(const config_key& key, std::string_view text) {
  return fmt::format("expects {}, got {}", expectation(key), in_quotes(text));
}

problem out_of_range(const config_key& key, std::string_view text) {
  return fmt::format("must be between {} and {}, got {}", key.min, key.max, text);
}

template <class T>
problem assign_number(const config_key& key, std::string_view text, T& field) {
  using wide = std::conditional_t<std::is_floating_point_v<T>, double, std::int64_t>;
  wide value{};
  const char* const end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, value);
  if (stop != end || status == std::errc::invalid_argument) return wrong_type(key, text);
  if (status == std::errc::result_out_of_range) return out_of_range(key, text);
  const double number = static_cast<double>(value);
  if (!std::isfinite(number)) return wrong_type(key, text);
  if (number < key.min || number > key.max) return out_of_range(key, text);
  field = static_cast<T>(value);
  return {};
}

std::optional<std::size_t> choice_index(const config_key& key, std::string_view text) {
  const auto found = std::find(key.choices.begin(), key.choices.end(), text);
  if (found == key.choices.end()) return {};
  return static_cast<std::size_t>(found - key.choices.begin());
}

problem assign_field(const config_key& key, std::string_view text, bool& field) {
  if (text != "true" && text != "false") return wrong_type(key, text);
  field = text == "true";
  return {};
}

problem assign_field(const config_key& key, std::string_view text, std::uint16_t& field) {
  return assign_number(key, text, field);
}
problem assign_field(const config_key& key, std::string_view text, std::uint32_t& field) {
  return assign_number(key, text, field);
}
problem assign_field(const config_key& key, std::string_view text, std::uint64_t& field) {
  return assign_number(key, text, field);
}
problem assign_field(const config_key& key, std::string_view text, float& field) {
  return assign_number(key, text, field);
}
problem assign_field(const config_key& key, std::string_view text, double& field) {
  return assign_number(key, text, field);
}

problem assign_field(const config_key& key, std::string_view text, std::string& field) {
  if (!key.choices.empty() && !choice_index(key, text)) return wrong_type(key, text);
  if (text.find('\0') != std::string_view::npos) return wrong_type(key, text);
  field = text;
  return {};
}

problem assign_field(const config_key&, std::string_view text, std::vector<std::string>& field) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) items.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  field = std::move(items);
  return {};
}

problem assign_field(const config_key& key, std::string_view text, kv_type& field) {
  const std::optional<std::size_t> index = choice_index(key, text);
  if (!index) return wrong_type(key, text);
  field = static_cast<kv_type>(*index);
  return {};
}

problem assign_field(const config_key& key, std::string_view text, kv_types& field) {
  const std::optional<kv_types> types = parse_kv_types(text);
  if (!types) return wrong_type(key, text);
  field = *types;
  return {};
}

std::string joined(const std::vector<std::string_view>& items) {
  return fmt::format("{}", fmt::join(items, ", "));
}

/// Plain where YAML cannot take it for anything else, quoted otherwise.
std::string yaml_text(std::string_view text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '/';
  };
  const bool is_null = text == "null" || text == "Null" || text == "NULL";
  if (!text.empty() && !is_null && std::all_of(text.begin(), text.end(), is_plain))
    return std::string(text);
  return in_quotes(text);
}

std::string field_text(const config_key& key, const config_field& field) {
  return std::visit(
      [&key](const auto* value) -> std::string {
        using type = std::remove_cvref_t<decltype(*value)>;
        if constexpr (std::is_same_v<type, std::string>) {
          return yaml_text(*value);
        } else if constexpr (std::is_same_v<type, std::vector<std::string>>) {
          std::vector<std::string> items;
          for (const std::string& item : *value) items.push_back(in_quotes(item));
          return fmt::format("[{}]", fmt::join(items, ", "));
        } else if constexpr (std::is_same_v<type, kv_type>) {
          return std::string(key.choices[static_cast<std::size_t>(*value)]);
        } else if constexpr (std::is_same_v<type, kv_types>) {
          return kv_types_name(*value);
        } else {
          return fmt::format("{}", *value);
        }
      },
      field);
}

problem refuse_unsupported(const config_key& key, const quire_options& changed) {
  if (key.support == key_support::implemented) return {};
  const std::string fallback = value_text(key, quire_options{});
  if (value_text(key, changed) == fallback) return {};
  return fmt::format("is not supported yet; leave it out or at its default, {}", fallback);
}

}  // namespace

std::string expectation(const config_key& key) {
  quire_options defaults;
  const config_field field = key.field(defaults);
  if (!key.choices.empty()) return "one of " + joined(key.choices);
  if (std::holds_alternative<bool*>(field)) return "true or false";
  if (std::holds_alternative<float*>(field) || std::holds_alternative<double*>(field))
    return "a number";
  if (std::holds_alternative<std::string*>(field)) return "a text";
  if (std::holds_alternative<std::vector<std::string>*>(field)) return "a list of texts";
  if (std::holds_alternative<kv_types*>(field))
    return "one of f32, f16, q8, q4, or two of them as in q8/q4";
  return "an integer";
}

std::optional<std::string> assign(const config_key& key, std::string_view text,
                                  quire_options& options) {
  quire_options changed = options;
  problem wrong =
      std::visit([&](auto* field) { return assign_field(key, text, *field); }, key.field(changed));
  if (!wrong) wrong = refuse_unsupported(key, changed);
  if (!wrong) options = std::move(changed);
  return wrong;
}

std::optional<std::string> assign(const config_key& key, std::vector<std::string> items,
                                  quire_options& options) {
  quire_options changed = options;
  const config_field field = key.field(changed);
  const auto* list = std::get_if<std::vector<std::string>*>(&field);
  if (!list) return fmt::format("expects {}, got a list", expectation(key));
  **list = std::move(items);
  problem wrong = refuse_unsupported(key, changed);
  if (!wrong) options = std::move(changed);
  return wrong;
}

std::string value_text(const config_key& key, const quire_options& options) {
  quire_options copy = options;  // the table's accessors are not const
  return field_text(key, key.field(copy));
}

}  // namespace quire
