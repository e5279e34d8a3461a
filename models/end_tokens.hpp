// Which tokens end a generation.
#pragma once

#include "core/error.hpp"
#include "models/gguf.hpp"
#include "models/vocabulary.hpp"

namespace quire {

/// Fills `ends` from the ids that the file names (eos, eot, eom, fill-in-the-middle separators) and
/// from well-known texts, and makes those that are found by text control tokens: files often mark
/// them wrongly. Source: the rules of llama.cpp, so that both stop at the same tokens.
/// Errors: invalid_file (an id outside of the vocabulary).
result<void> mark_end_tokens(const gguf_file& file, vocabulary& tokens);

}  // namespace quire
