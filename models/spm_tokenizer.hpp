// SentencePiece's byte-pair encoding by scores with byte fallback: GGUF's tokenizer model "llama".
#pragma once

#include <memory>

#include "core/error.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire {

/// Makes the tokenizer from the file's metadata. Errors: invalid_file (missing keys; no token for a
/// byte and no unknown token).
result<std::unique_ptr<tokenizer>> load_spm_tokenizer(const gguf_file& file);

}  // namespace quire
