// The tokens of a model file: texts, kinds, scores and the ids with a meaning, validated. What a
// tokenizer needs before it knows how to split text.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"
#include "models/gguf.hpp"
#include "models/token_index.hpp"

namespace quire {

/// What a token is. Numbers as in tokenizer.ggml.token_type.
enum class token_kind : std::uint8_t {
  undefined = 0,
  normal,
  unknown,
  control,       ///< has no text of its own; recognised in text only when asked
  user_defined,  ///< always recognised in text, before anything else
  unused,
  byte  ///< written as <0xNN>
};

/// Which defaults hold when the file is silent.
enum class vocabulary_family : std::uint8_t { byte_level, sentence_piece };

struct vocabulary {
  std::vector<char> characters;          ///< the texts, end to end; pieces point into it
  std::vector<std::string_view> pieces;  ///< by id
  std::vector<token_kind> kinds;         ///< by id
  std::vector<float> scores;             ///< by id; empty when the file has none
  std::vector<bool> ends;                ///< by id: whether generation ends there
  token_index by_text;
  std::optional<token_id> bos;
  std::optional<token_id> eos;
  std::optional<token_id> unknown;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;

  vocabulary() = default;
  vocabulary(vocabulary&&) = default;
  vocabulary& operator=(vocabulary&&) = default;
};

/// Reads the vocabulary. `add_bos` is the tokenizer's default. Errors: invalid_file (missing or
/// contradicting keys, by name).
result<vocabulary> load_vocabulary(const gguf_file& file, vocabulary_family family, bool add_bos);

/// Returns the value of a byte token's text "<0xNN>", or nullopt.
std::optional<unsigned char> byte_of_piece(std::string_view piece) noexcept;

}  // namespace quire
