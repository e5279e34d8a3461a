// Byte-level byte-pair encoding, as GPT-2 introduced it: GGUF's tokenizer model "gpt2".
#pragma once

#include <memory>

#include "core/error.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire {

/// Makes the tokenizer from the file's metadata. Bytes for which the vocabulary has no token are
/// left out of the encoding, as both references do. Errors: invalid_file (missing keys; merges that
/// do not join two tokens to a third), unsupported (the pre-tokenizer).
result<std::unique_ptr<tokenizer>> load_bpe_tokenizer(const gguf_file& file);

}  // namespace quire
