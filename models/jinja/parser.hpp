// Parses a template into its syntax tree.
#pragma once

#include <string_view>

#include "models/jinja/ast.hpp"

namespace quire::jinja {

/// Parses a normalized source. Throws failure: invalid_argument for a syntax error, unsupported for
/// a feature of Jinja that is missing here.
statement_list parse_template(std::string_view source);

}  // namespace quire::jinja
