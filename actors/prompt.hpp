// From what a caller asked to the tokens that the model reads.
#pragma once

#include <vector>

#include "actors/generation.hpp"
#include "core/error.hpp"
#include "models/chat_template.hpp"
#include "models/tokenizer.hpp"

namespace quire {

/// Renders the chat template if there is one to render, and tokenizes. A template that writes the
/// beginning-of-text token itself does not get a second one. `chat` may be null. Errors:
/// invalid_argument (an empty prompt, a token outside the vocabulary, what the template raises),
/// unsupported (messages for a model without a template).
result<std::vector<token_id>> build_prompt(const generation_request& request,
                                           const tokenizer& vocabulary, const chat_template* chat);

}  // namespace quire
