// What `quire config show` and `quire config schema` print.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "config/config.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.')) {
    parts.push_back(name.substr(0, dot));
    name.remove_prefix(dot + 1);
  }
  parts.push_back(name);
  return parts;
}

json type_schema(const config_key& key) {
  quire_options defaults;
  return std::visit(
      [&key](const auto* value) -> json {
        using type = std::remove_cvref_t<decltype(*value)>;
        // The default is read back from its text so that 0.95f is 0.95 and not 0.949999988.
        const std::string text = value_text(key, quire_options{});
        if constexpr (std::is_same_v<type, bool>) {
          return {{"type", "boolean"}, {"default", *value}};
        } else if constexpr (std::is_same_v<type, std::vector<std::string>>) {
          return {{"type", "array"}, {"items", {{"type", "string"}}}, {"default", *value}};
        } else if constexpr (std::is_arithmetic_v<type>) {
          json schema = {{"type", std::is_integral_v<type> ? "integer" : "number"},
                         {"default", json::parse(text)}};
          if constexpr (std::is_integral_v<type>) {
            schema["minimum"] = static_cast<std::int64_t>(key.min);
            schema["maximum"] = static_cast<std::int64_t>(key.max);
          } else {
            schema["minimum"] = key.min;
            schema["maximum"] = key.max;
          }
          return schema;
        } else {
          json schema = {{"type", "string"}, {"default", text == "\"\"" ? "" : text}};
          if (!key.choices.empty()) schema["enum"] = key.choices;
          return schema;
        }
      },
      key.field(defaults));
}

}  // namespace

std::string show_config(const loaded_config& config) {
  std::string text;
  std::vector<std::string_view> open;  // groups of the previous key
  for (const config_value& value : config.values) {
    const std::vector<std::string_view> parts = parts_of(value.key);
    std::size_t shared = 0;
    while (shared < open.size() && shared + 1 < parts.size() && open[shared] == parts[shared])
      ++shared;
    open.assign(parts.begin(), parts.end() - 1);
    for (std::size_t depth = shared; depth < open.size(); ++depth)
      text += fmt::format("{:{}}{}:\n", "", 2 * depth, open[depth]);
    text += fmt::format("{:{}}{}: {}  # {}\n", "", 2 * open.size(), parts.back(), value.text,
                        value.origin);
  }
  return text;
}

std::string config_schema() {
  json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "quire configuration"},
                 {"type", "object"},
                 {"additionalProperties", false},
                 {"properties", json::object()}};
  for (const config_key& key : config_keys()) {
    const std::vector<std::string_view> parts = parts_of(key.name);
    json* group = &schema;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      json& child = (*group)["properties"][std::string(parts[i])];
      if (child.is_null())
        child = {
            {"type", "object"}, {"additionalProperties", false}, {"properties", json::object()}};
      group = &child;
    }
    json described = {{"description", key.meaning}};
    described.update(type_schema(key));
    if (key.support == key_support::not_yet) {
      described["description"] = std::string(key.meaning) + " (not supported yet)";
      described["const"] = described["default"];
    }
    (*group)["properties"][std::string(parts.back())] = std::move(described);
  }
  return schema.dump(2) + "\n";
}

}  // namespace quire
