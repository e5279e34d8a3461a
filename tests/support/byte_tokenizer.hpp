// A tokenizer for tests: one token per byte, then a beginning and an end token.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "models/tokenizer.hpp"

namespace quire::testing {

class byte_tokenizer final : public tokenizer {
 public:
  static constexpr token_id bos_token{256};
  static constexpr token_id end_token{257};

  explicit byte_tokenizer(bool adds_bos = false) : adds_bos_(adds_bos) {
    for (std::size_t i = 0; i < 256; ++i) pieces_[i] = std::string(1, static_cast<char>(i));
    pieces_[256] = "<s>";
    pieces_[257] = "</s>";
  }

  std::vector<token_id> encode(std::string_view text, encode_options options) const override {
    std::vector<token_id> tokens;
    if (options.add_special && adds_bos_) tokens.push_back(bos_token);
    while (!text.empty()) {
      if (options.parse_special && take(text, pieces_[256]))
        tokens.push_back(bos_token);
      else if (options.parse_special && take(text, pieces_[257]))
        tokens.push_back(end_token);
      else {
        tokens.push_back(token_id{static_cast<unsigned char>(text.front())});
        text.remove_prefix(1);
      }
    }
    return tokens;
  }
  std::string_view bytes(token_id token, bool with_special) const override {
    return is_control(token) && !with_special ? std::string_view() : piece(token);
  }
  std::string decode(std::span<const token_id> tokens, bool with_special) const override {
    std::string text;
    for (const token_id token : tokens) text += bytes(token, with_special);
    return text;
  }
  std::size_t vocabulary_size() const noexcept override { return pieces_.size(); }
  std::string_view piece(token_id token) const override { return pieces_.at(to_index(token)); }
  bool is_control(token_id token) const override { return to_index(token) >= 256; }
  bool is_end(token_id token) const override { return token == end_token; }
  bool adds_bos() const noexcept override { return adds_bos_; }
  std::optional<token_id> bos() const noexcept override { return bos_token; }
  std::optional<token_id> eos() const noexcept override { return end_token; }

 private:
  static bool take(std::string_view& text, std::string_view word) {
    if (!text.starts_with(word)) return false;
    text.remove_prefix(word.size());
    return true;
  }
  bool adds_bos_;
  std::array<std::string, 258> pieces_;
};

}  // namespace quire::testing
