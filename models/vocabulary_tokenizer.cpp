#include "models/vocabulary_tokenizer.hpp"

#include <algorithm>

namespace quire {

namespace {

// Positions inside one piece of text are 32-bit; a longer text is cut, which changes at most one
// token.
constexpr std::size_t longest_text = std::size_t{1} << 30U;

}  // namespace

vocabulary_tokenizer::vocabulary_tokenizer(vocabulary tokens) : tokens_(std::move(tokens)) {
  std::vector<std::uint32_t> user_defined;
  std::vector<std::uint32_t> special;
  for (std::uint32_t id = 0; id < tokens_.kinds.size(); ++id) {
    const token_kind kind = tokens_.kinds[id];
    if (kind == token_kind::user_defined) user_defined.push_back(id);
    if (kind == token_kind::user_defined || kind == token_kind::control ||
        kind == token_kind::unknown)
      special.push_back(id);
  }
  user_defined_ = special_matcher(tokens_.pieces, user_defined);
  all_special_ = special_matcher(tokens_.pieces, special);
  byte_ends_.reserve(tokens_.pieces.size());
}

void vocabulary_tokenizer::add_bytes(std::string_view bytes) {
  bytes_ += bytes;
  byte_ends_.push_back(bytes_.size());
}

std::vector<token_id> vocabulary_tokenizer::encode(std::string_view text,
                                                   encode_options options) const {
  std::vector<token_id> out;
  out.reserve(text.size() / 4 + 2);
  if (options.add_special && tokens_.add_bos) out.push_back(*tokens_.bos);
  bool first = true;
  const auto encode_plain = [&](std::string_view plain) {
    for (; !plain.empty(); plain.remove_prefix(std::min(plain.size(), longest_text))) {
      encode_text(plain.substr(0, longest_text), first, out);
      first = false;
    }
  };
  std::size_t at = 0;
  for (const auto& match : (options.parse_special ? all_special_ : user_defined_).find(text)) {
    encode_plain(text.substr(at, match.offset - at));
    out.push_back(token_id{match.id});
    at = match.offset + match.size;
    first = true;
  }
  encode_plain(text.substr(at));
  if (options.add_special && tokens_.add_eos) out.push_back(*tokens_.eos);
  return out;
}

bool vocabulary_tokenizer::hidden(token_id token) const {
  const token_kind kind = tokens_.kinds[to_index(token)];
  return kind == token_kind::control || kind == token_kind::unknown;
}

std::string_view vocabulary_tokenizer::bytes(token_id token, bool with_special) const {
  const std::size_t index = to_index(token);
  if (index >= byte_ends_.size() || (!with_special && hidden(token))) return {};
  const std::size_t start = index == 0 ? 0 : byte_ends_[index - 1];
  return std::string_view(bytes_).substr(start, byte_ends_[index] - start);
}

std::string vocabulary_tokenizer::decode(std::span<const token_id> tokens,
                                         bool with_special) const {
  std::string out;
  bool first = tokens_.add_space_prefix;
  for (const token_id token : tokens) {
    std::string_view part = bytes(token, with_special);
    if (first && part.starts_with(' ')) part.remove_prefix(1);
    if (to_index(token) < tokens_.kinds.size() && !hidden(token)) first = false;
    out += part;
  }
  return out;
}

std::string_view vocabulary_tokenizer::piece(token_id token) const {
  const std::size_t index = to_index(token);
  return index < tokens_.pieces.size() ? tokens_.pieces[index] : std::string_view{};
}

bool vocabulary_tokenizer::is_control(token_id token) const {
  return to_index(token) < tokens_.kinds.size() && hidden(token);
}

bool vocabulary_tokenizer::is_end(token_id token) const {
  return to_index(token) < tokens_.ends.size() && tokens_.ends[to_index(token)];
}

}  // namespace quire
