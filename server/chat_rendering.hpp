// Renders conversations outside of the engine, for the routes that need the text or a part of it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "actors/engine.hpp"
#include "server/api_error.hpp"

namespace quire {

/// Renders template variables with the model's template and its BOS and EOS texts. Errors:
/// unsupported_parameter (no template), invalid_value (the template refuses).
api_result<std::string> render_chat(const engine& served_engine, nlohmann::ordered_json variables);

/// Returns the tokens of a conversation that ends inside its last message, ready to be continued.
/// Errors: those of render_chat, and invalid_value when there is nothing to continue or the
/// template does not repeat the message as it is.
api_result<std::vector<token_id>> continue_last_message(const engine& served_engine,
                                                        nlohmann::ordered_json variables);

}  // namespace quire
