#include "models/bpe_tokenizer.hpp"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <bit>
#include <utility>

#include "models/byte_level.hpp"
#include "models/merge_symbols.hpp"
#include "models/pre_tokenizer.hpp"
#include "models/vocabulary_tokenizer.hpp"

namespace quire {

namespace {

constexpr std::string_view merges_key = "tokenizer.ggml.merges";

/// What two neighbouring tokens merge to, by their ids: a flat hash table.
class merge_table {
 public:
  explicit merge_table(std::size_t num_merges) : slots_(std::bit_ceil(num_merges * 2 + 2)) {}

  /// Adds a merge unless the pair has one already: the first in the file ranks highest.
  void add(std::uint32_t left, std::uint32_t right, merge_outcome outcome) {
    const std::uint64_t pair = pair_of(left, right);
    std::uint64_t at = seeded_hash(pair) & (slots_.size() - 1);
    while (slots_[at].outcome.id != no_token) {
      if (slots_[at].pair == pair) return;
      at = (at + 1) & (slots_.size() - 1);
    }
    slots_[at] = {pair, outcome};
  }

  merge_outcome find(std::uint32_t left, std::uint32_t right) const noexcept {
    const std::uint64_t pair = pair_of(left, right);
    std::uint64_t at = seeded_hash(pair) & (slots_.size() - 1);
    for (; slots_[at].outcome.id != no_token; at = (at + 1) & (slots_.size() - 1))
      if (slots_[at].pair == pair) return slots_[at].outcome;
    return {};
  }

 private:
  struct slot {
    std::uint64_t pair = 0;
    merge_outcome outcome;
  };
  static std::uint64_t pair_of(std::uint32_t left, std::uint32_t right) noexcept {
    return (std::uint64_t{left} << 32U) | right;
  }
  std::vector<slot> slots_;
};

result<merge_table> load_merges(const gguf_file& file, const vocabulary& tokens) {
  const auto* array = file.get_array(merges_key);
  if (array == nullptr || array->element != gguf_type::string)
    return fail(errc::invalid_file,
                fmt::format("{} is missing or not an array of strings", merges_key));
  if (array->count >= no_token)
    return fail(errc::invalid_file, fmt::format("{} has {} elements", merges_key, array->count));
  merge_table merges(array->strings.size());
  std::string joined;
  for (std::uint32_t rank = 0; rank < array->strings.size(); ++rank) {
    const std::string_view text = array->strings[rank];
    const std::size_t space = text.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == text.size())
      return fail(
          errc::invalid_file,
          fmt::format("{}: merge {} is not two texts with a space between", merges_key, rank));
    const auto left_text = text.substr(0, space);
    const auto right_text = text.substr(space + 1);
    const std::uint32_t left = tokens.by_text.find(left_text);
    const std::uint32_t right = tokens.by_text.find(right_text);
    joined.assign(left_text).append(right_text);
    const std::uint32_t whole = tokens.by_text.find(joined);
    if (left == no_token || right == no_token || whole == no_token)
      return fail(
          errc::invalid_file,
          fmt::format("{}: merge {} does not join two tokens to a third", merges_key, rank));
    merges.add(left, right, {rank, whole});
  }
  return merges;
}

class bpe_tokenizer final : public vocabulary_tokenizer {
 public:
  bpe_tokenizer(vocabulary vocab, merge_table merges, pre_tokenizer words)
      : vocabulary_tokenizer(std::move(vocab)),
        merges_(std::move(merges)),
        words_(std::move(words)),
        whole_(tokens().pieces.size()) {
    for (unsigned byte = 0; byte < byte_ids_.size(); ++byte)
      byte_ids_[byte] =
          tokens().by_text.find(byte_level_character(static_cast<unsigned char>(byte)));
    index_raw_bytes();
    for (std::uint32_t id = 0; id < tokens().pieces.size(); ++id) add_bytes(generated_bytes(id));
  }

 private:
  /// Whether merging a token's bytes gives that token back. Found out when first asked.
  enum class whole_word : std::uint8_t { unknown, yes, no };

  void index_raw_bytes() {
    std::vector<std::size_t> ends;
    for (const auto piece : tokens().pieces) {
      raw_characters_ += byte_level_decode(piece).value_or("");
      ends.push_back(raw_characters_.size());
    }
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
      raw_.push_back(std::string_view(raw_characters_).substr(begin, end - begin));
      begin = end;
    }
    by_raw_ = token_index(raw_);
  }

  std::string generated_bytes(std::uint32_t id) const {
    const std::string_view piece = tokens().pieces[id];
    switch (tokens().kinds[id]) {
      case token_kind::normal:
        return raw_[id].empty() ? std::string(piece) : std::string(raw_[id]);
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

  void encode_text(std::string_view text, bool, std::vector<token_id>& out) const override {
    thread_local std::vector<std::uint32_t> ends;
    ends.clear();
    words_.split(text, ends);
    std::uint32_t begin = 0;
    for (const std::uint32_t end : ends) {
      encode_word(text.substr(begin, end - begin), out);
      begin = end;
    }
  }

  void encode_word(std::string_view word, std::vector<token_id>& out) const {
    const std::uint32_t id = by_raw_.find(word);
    if (id == no_token) return merge_word(word, out);
    whole_word known = whole_[id].load(std::memory_order_relaxed);
    if (known == whole_word::unknown) {
      std::vector<token_id> merged;
      if (!words_.ignore_merges()) merge_word(word, merged);
      const bool same = words_.ignore_merges() || merged == std::vector{token_id{id}};
      known = same ? whole_word::yes : whole_word::no;
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
    for (const char c : word) work.add(1, byte_ids_[static_cast<unsigned char>(c)]);
    work.merge([this](const merge_symbol& left, const merge_symbol& right) {
      return merges_.find(left.id, right.id);
    });
    for (std::uint32_t i = 0; i != no_symbol; i = work.symbols[i].next)
      if (work.symbols[i].id != no_token) out.push_back(token_id{work.symbols[i].id});
  }

  merge_table merges_;
  pre_tokenizer words_;
  std::array<std::uint32_t, 256> byte_ids_{};
  std::string raw_characters_;         // the bytes that the tokens' texts stand for, end to end
  std::vector<std::string_view> raw_;  // by id; empty when the text is not in byte-level writing
  token_index by_raw_;
  mutable std::vector<std::atomic<whole_word>> whole_;
};

}  // namespace

result<std::unique_ptr<tokenizer>> load_bpe_tokenizer(const gguf_file& file) {
  const auto name = file.get_string("tokenizer.ggml.pre");
  if (!name)
    return fail(
        errc::unsupported,
        "the file names no pre-tokenizer (tokenizer.ggml.pre); convert the model again with a "
        "current converter");
  auto words = pre_tokenizer::make(*name);
  if (!words) return tl::unexpected<error>(std::move(words.error()));
  auto tokens = load_vocabulary(file, vocabulary_family::byte_level, words->adds_bos());
  if (!tokens) return tl::unexpected<error>(std::move(tokens.error()));
  auto merges = load_merges(file, *tokens);
  if (!merges) return tl::unexpected<error>(std::move(merges.error()));
  return std::make_unique<bpe_tokenizer>(std::move(*tokens), std::move(*merges), std::move(*words));
}

}  // namespace quire
