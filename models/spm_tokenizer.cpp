#include "models/spm_tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>

#include "models/merge_symbols.hpp"
#include "models/vocabulary_tokenizer.hpp"

namespace quire {

namespace {

// U+2581, which stands for a space in the vocabulary.
constexpr std::string_view underscore = "\xe2\x96\x81";

std::string with_underscores(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      out += underscore;
    } else {
      out += c;
    }
  }
  return out;
}

std::string with_spaces(std::string_view piece) {
  std::string out;
  for (std::size_t at = 0; at < piece.size();) {
    const bool space = piece.substr(at).starts_with(underscore);
    out += space ? ' ' : piece[at];
    at += space ? underscore.size() : 1;
  }
  return out;
}

/// The length of a character by its first byte alone, whatever follows: so the reference cuts text
/// that is not UTF-8.
std::size_t claimed_length(char lead) noexcept {
  static constexpr std::array<std::uint8_t, 16> lengths{1, 1, 1, 1, 1, 1, 1, 1,
                                                        1, 1, 1, 1, 2, 2, 3, 4};
  return lengths[static_cast<unsigned char>(lead) >> 4U];
}

/// Ranks scores for merging: the higher the score the lower the rank, equal for equal scores.
std::uint32_t rank_of(float score) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes 0
  constexpr std::uint32_t sign = 0x80000000U;
  const std::uint32_t ascending = (bits & sign) != 0 ? ~bits : bits | sign;
  return ~ascending;
}

class spm_tokenizer final : public vocabulary_tokenizer {
 public:
  explicit spm_tokenizer(vocabulary vocab)
      : vocabulary_tokenizer(std::move(vocab)), whole_(tokens().pieces.size()) {
    for (std::uint32_t id = 0; id < tokens().pieces.size(); ++id) {
      add_bytes(generated_bytes(id));
      note_underscores(tokens().pieces[id]);
      ranks_.push_back(rank_of(tokens().scores[id]));
    }
    for (unsigned byte = 0; byte < byte_ids_.size(); ++byte) byte_ids_[byte] = find_byte(byte);
  }

  /// Returns a byte that cannot be encoded at all, or nullopt.
  std::optional<unsigned> missing_byte() const noexcept {
    const auto found = std::ranges::find(byte_ids_, no_token);
    if (found == byte_ids_.end()) return std::nullopt;
    return static_cast<unsigned>(found - byte_ids_.begin());
  }

 private:
  /// Whether merging a token's text gives that token back. Found out when first asked.
  enum class whole_word : std::uint8_t { unknown, yes, no };

  std::string generated_bytes(std::uint32_t id) const {
    const std::string_view piece = tokens().pieces[id];
    switch (tokens().kinds[id]) {
      case token_kind::normal:
        return with_spaces(piece);
      case token_kind::unknown:
      case token_kind::control:
      case token_kind::user_defined:
        return std::string(piece);
      case token_kind::byte:
        return {static_cast<char>(byte_of_piece(piece).value_or(0))};
      case token_kind::undefined:
      case token_kind::unused:
        return {};
    }
    return {};
  }

  std::uint32_t find_byte(unsigned byte) const {
    const std::uint32_t written = tokens().by_text.find(fmt::format("<0x{:02X}>", byte));
    if (written != no_token) return written;
    const char raw = static_cast<char>(byte);
    const std::uint32_t plain = tokens().by_text.find({&raw, 1});
    if (plain != no_token) return plain;
    return tokens().unknown ? to_index(*tokens().unknown) : no_token;
  }

  /// Notes which bytes come right before an underscore inside a token. After any other byte an
  /// underscore begins a word that no token crosses, so that words can be merged one by one.
  void note_underscores(std::string_view piece) {
    for (auto at = piece.find(underscore, 1); at != std::string_view::npos;
         at = piece.find(underscore, at + 1))
      crosses_[static_cast<unsigned char>(piece[at - 1])] = true;
  }

  void encode_text(std::string_view text, bool first, std::vector<token_id>& out) const override {
    std::string escaped;
    if (first && tokens().add_space_prefix) escaped = underscore;
    escaped += with_underscores(text);
    const std::string_view all = escaped;
    std::size_t begin = 0;
    for (std::size_t at = claimed_length(all[0]); at < all.size(); at += claimed_length(all[at])) {
      if (!all.substr(at).starts_with(underscore) ||
          crosses_[static_cast<unsigned char>(all[at - 1])])
        continue;
      encode_word(all.substr(begin, at - begin), out);
      begin = at;
    }
    encode_word(all.substr(begin), out);
  }

  void encode_word(std::string_view word, std::vector<token_id>& out) const {
    const std::uint32_t id = tokens().by_text.find(word);
    if (id == no_token) return merge_word(word, out);
    whole_word known = whole_[id].load(std::memory_order_relaxed);
    if (known == whole_word::unknown) {
      std::vector<token_id> merged;
      merge_word(word, merged);
      known = merged == std::vector{token_id{id}} ? whole_word::yes : whole_word::no;
      whole_[id].store(known, std::memory_order_relaxed);
    }
    if (known == whole_word::yes) {
      out.push_back(token_id{id});
    } else {
      merge_word(word, out);
    }
  }

  void merge_word(std::string_view word, std::vector<token_id>& out) const {
    thread_local merge_workspace work;
    work.clear();
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t size = std::min(claimed_length(word[at]), word.size() - at);
      work.add(static_cast<std::uint32_t>(size), no_token);
      at += size;
    }
    work.merge([&](const merge_symbol& left, const merge_symbol& right) -> merge_outcome {
      const std::uint32_t id =
          tokens().by_text.find(word.substr(left.offset, left.size + right.size));
      if (id == no_token) return {};
      return {ranks_[id], id};
    });
    for (std::uint32_t i = 0; i != no_symbol; i = work.symbols[i].next)
      emit(word.substr(work.symbols[i].offset, work.symbols[i].size), work.symbols[i].id, out);
  }

  void emit(std::string_view text, std::uint32_t id, std::vector<token_id>& out) const {
    if (id == no_token) id = tokens().by_text.find(text);  // a character that was never merged
    if (id != no_token) {
      out.push_back(token_id{id});
      return;
    }
    for (const char c : text) out.push_back(token_id{byte_ids_[static_cast<unsigned char>(c)]});
  }

  std::array<std::uint32_t, 256> byte_ids_{};
  std::array<bool, 256> crosses_{};
  std::vector<std::uint32_t> ranks_;  // by id
  mutable std::vector<std::atomic<whole_word>> whole_;
};

}  // namespace

result<std::unique_ptr<tokenizer>> load_spm_tokenizer(const gguf_file& file) {
  auto tokens = load_vocabulary(file, vocabulary_family::sentence_piece, true);
  if (!tokens) return tl::unexpected<error>(std::move(tokens.error()));
  if (tokens->scores.empty())
    return fail(errc::invalid_file,
                "tokenizer.ggml.scores is missing, which the tokenizer 'llama' needs");
  auto made = std::make_unique<spm_tokenizer>(std::move(*tokens));
  if (const auto byte = made->missing_byte())
    return fail(errc::invalid_file,
                fmt::format("the vocabulary has no token for the byte {:#04x} and no unknown token",
                            *byte));
  return made;
}

}  // namespace quire
