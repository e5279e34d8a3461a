// Parses request bodies from strangers: bounded nesting and bounded work before the JSON library
// sees them, and refusals that name the byte.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "server/api_error.hpp"

namespace quire {

/// Parses a body that must be one JSON object. Errors: invalid_json with the byte position, or
/// invalid_value for JSON of another kind.
api_result<nlohmann::ordered_json> parse_json_body(std::string_view body);

}  // namespace quire
