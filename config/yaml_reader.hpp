// Flattens a YAML document into values of known keys, in the order of the document. The only file
// that sees yaml-cpp is its .cpp.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/keys.hpp"

namespace quire {

/// Either a value of a key, or a problem; `place` is file:line:column.
struct yaml_item {
  const config_key* key = nullptr;  ///< null for a problem
  std::variant<std::string, std::vector<std::string>> value;
  std::string place;
  std::string problem;  ///< with the key's name but without the place
};

/// Reads the document; malformed YAML is one item with its problem.
std::vector<yaml_item> read_yaml(std::string_view text, std::string_view name);

}  // namespace quire
