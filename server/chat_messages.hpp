// The messages of a chat request, checked and put into the shape that chat templates expect.
#pragma once

#include <nlohmann/json.hpp>

#include "server/api_error.hpp"

namespace quire {

/// Checks roles and contents, joins text parts by newlines, and passes everything else on as it is.
/// Errors: 400 naming the place, for example "messages[1].content[0].type".
api_result<nlohmann::ordered_json> read_messages(const nlohmann::ordered_json& body);

/// Builds the template's variables from a request: messages, tools, add_generation_prompt and
/// chat_template_kwargs. Errors: 400 naming the field.
api_result<nlohmann::ordered_json> read_chat_variables(const nlohmann::ordered_json& body);

}  // namespace quire
