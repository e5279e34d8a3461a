// Prompts for measurements: random plain words, new ones for every call.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"
#include "models/tokenizer.hpp"

namespace quire::cli {

/// Makes token prompts of an exact length from tokens that are whole lower-case English-looking
/// words.
class word_prompts {
 public:
  /// Errors: unsupported (the vocabulary has next to no such tokens).
  static result<word_prompts> make(const tokenizer& vocabulary, std::uint64_t seed);

  /// Returns `num_tokens` token ids, the first being BOS where the model adds one.
  std::vector<token_id> prompt(std::size_t num_tokens);
  /// Returns a prompt that begins with `prefix` and has `num_tokens` tokens in all.
  std::vector<token_id> prompt_after(const std::vector<token_id>& prefix, std::size_t num_tokens);

 private:
  std::vector<token_id> words_;
  std::vector<token_id> start_;  // BOS or nothing
  std::mt19937_64 random_;
};

}  // namespace quire::cli
