// Runs a parsed template.
#pragma once

#include <string>

#include "models/jinja/ast.hpp"

namespace quire::jinja {

/// Renders the template with the items of `variables` as its variables. Throws failure.
std::string render_template(const statement_list& body, const mapping& variables, runtime& rt);

}  // namespace quire::jinja
