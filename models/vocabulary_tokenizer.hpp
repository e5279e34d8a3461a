// What all tokenizers share: the lookups of a vocabulary, special tokens in text, and joining
// bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/special_matcher.hpp"
#include "models/tokenizer.hpp"
#include "models/vocabulary.hpp"

namespace quire {

class vocabulary_tokenizer : public tokenizer {
 public:
  std::vector<token_id> encode(std::string_view text, encode_options options) const final;
  std::string_view bytes(token_id token, bool with_special) const final;
  std::string decode(std::span<const token_id> tokens, bool with_special) const final;
  std::size_t vocabulary_size() const noexcept final { return tokens_.pieces.size(); }
  std::string_view piece(token_id token) const final;
  bool is_control(token_id token) const final;
  bool is_end(token_id token) const final;
  bool adds_bos() const noexcept final { return tokens_.add_bos; }
  std::optional<token_id> bos() const noexcept final { return tokens_.bos; }
  std::optional<token_id> eos() const noexcept final { return tokens_.eos; }

 protected:
  explicit vocabulary_tokenizer(vocabulary tokens);

  const vocabulary& tokens() const noexcept { return tokens_; }

  /// Sets what a token stands for when generated, in the order of ids. The constructor of the
  /// derived class calls it for every token.
  void add_bytes(std::string_view bytes);

  /// Encodes text without special tokens. `first` is set at the start and after a special token.
  virtual void encode_text(std::string_view text, bool first, std::vector<token_id>& out) const = 0;

 private:
  bool hidden(token_id token) const;

  vocabulary tokens_;
  std::string bytes_;                   // end to end
  std::vector<std::size_t> byte_ends_;  // by id
  special_matcher user_defined_;
  special_matcher all_special_;
};

}  // namespace quire
