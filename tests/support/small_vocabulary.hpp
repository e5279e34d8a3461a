// Small tokenizers as GGUF files, for tests that need to know every token.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/byte_level.hpp"
#include "tests/support/gguf_writer.hpp"

namespace quire::testing {

/// The token kinds of GGUF files.
inline constexpr std::int32_t normal_kind = 1, unknown_kind = 2, control_kind = 3,
                              user_defined_kind = 4, byte_kind = 6;

/// What a vocabulary's keys will say; a test changes what it is about.
struct small_vocabulary {
  std::string model;
  std::optional<std::string> pre;
  std::vector<std::string> tokens;
  std::vector<std::int32_t> kinds;
  std::vector<float> scores;
  std::optional<std::vector<std::string>> merges;

  /// Adds a token and returns its id.
  std::uint32_t add(std::string text, std::int32_t kind = normal_kind, float score = 0.0f) {
    tokens.push_back(std::move(text));
    kinds.push_back(kind);
    scores.push_back(score);
    return static_cast<std::uint32_t>(tokens.size() - 1);
  }

  gguf_writer writer() const {
    gguf_writer out;
    out.add_string("tokenizer.ggml.model", model);
    if (pre) out.add_string("tokenizer.ggml.pre", *pre);
    out.add_strings("tokenizer.ggml.tokens", tokens);
    out.add_i32s("tokenizer.ggml.token_type", kinds);
    if (model == "llama") out.add_f32s("tokenizer.ggml.scores", scores);
    if (merges) out.add_strings("tokenizer.ggml.merges", *merges);
    return out;
  }
};

/// Returns a byte-level vocabulary: token N is the byte N, then the merges.
inline small_vocabulary byte_level_vocabulary(
    const std::vector<std::pair<std::string, std::string>>& merges) {
  small_vocabulary out;
  out.model = "gpt2";
  out.pre = "gpt-2";
  for (unsigned byte = 0; byte < 256; ++byte)
    out.add(byte_level_character(static_cast<unsigned char>(byte)));
  out.merges.emplace();
  for (const auto& [left, right] : merges) {
    out.add(left + right);
    out.merges->push_back(left + " " + right);
  }
  return out;
}

/// Returns a SentencePiece vocabulary: <unk>, <s>, </s>, then the bytes (token 3 + N is the byte
/// N).
inline small_vocabulary sentence_piece_vocabulary() {
  small_vocabulary out;
  out.model = "llama";
  out.add("<unk>", unknown_kind);
  out.add("<s>", control_kind);
  out.add("</s>", control_kind);
  constexpr const char* digits = "0123456789ABCDEF";
  for (unsigned byte = 0; byte < 256; ++byte)
    out.add(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", byte_kind);
  return out;
}

}  // namespace quire::testing
