#include "models/vocabulary.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "models/end_tokens.hpp"

namespace quire {

namespace {

constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
constexpr std::string_view types_key = "tokenizer.ggml.token_type";
constexpr std::string_view scores_key = "tokenizer.ggml.scores";

result<void> load_pieces(const gguf_file& file, vocabulary& tokens) {
  const auto* array = file.get_array(tokens_key);
  if (array == nullptr || array->element != gguf_type::string)
    return fail(errc::invalid_file,
                fmt::format("{} is missing or not an array of strings", tokens_key));
  if (array->count == 0 || array->count > std::numeric_limits<std::int32_t>::max())
    return fail(errc::invalid_file, fmt::format("{} has {} elements", tokens_key, array->count));
  std::size_t size = 0;
  for (const auto text : array->strings) size += text.size();
  tokens.characters.reserve(size);
  tokens.pieces.reserve(array->strings.size());
  for (const auto text : array->strings) {
    const char* start = tokens.characters.data() + tokens.characters.size();
    tokens.characters.insert(tokens.characters.end(), text.begin(), text.end());
    tokens.pieces.emplace_back(start, text.size());
  }
  tokens.by_text = token_index(tokens.pieces);
  if (const std::uint32_t second = tokens.by_text.duplicate(); second != no_token)
    return fail(errc::invalid_file,
                fmt::format("{}: token {} has the same text as token {}", tokens_key, second,
                            tokens.by_text.find(tokens.pieces[second])));
  return {};
}

/// Checks that an array has one element of four bytes per token.
result<void> check_parallel(const gguf_array& array, std::string_view key, bool right_type,
                            std::size_t num_tokens) {
  if (!right_type)
    return fail(errc::invalid_file, fmt::format("{} is an array of the wrong element type", key));
  if (array.count != num_tokens)
    return fail(errc::invalid_file,
                fmt::format("{} has {} elements for {} tokens", key, array.count, num_tokens));
  return {};
}

result<void> load_kinds(const gguf_file& file, vocabulary& tokens) {
  tokens.kinds.assign(tokens.pieces.size(), token_kind::normal);
  if (file.find(types_key) == nullptr) return {};
  const auto* array = file.get_array(types_key);
  if (array == nullptr)
    return fail(errc::invalid_file, fmt::format("{} is not an array", types_key));
  const bool integers = array->element == gguf_type::i32 || array->element == gguf_type::u32;
  if (auto checked = check_parallel(*array, types_key, integers, tokens.pieces.size()); !checked)
    return checked;
  for (std::size_t i = 0; i < tokens.pieces.size(); ++i) {
    std::uint32_t number = 0;
    std::memcpy(&number, array->bytes.data() + i * sizeof(number), sizeof(number));
    if (number > static_cast<std::uint32_t>(token_kind::byte))
      return fail(errc::invalid_file,
                  fmt::format("{}: token {} has the unknown type {}", types_key, i, number));
    tokens.kinds[i] = static_cast<token_kind>(number);
    if (tokens.kinds[i] == token_kind::byte && !byte_of_piece(tokens.pieces[i]))
      return fail(errc::invalid_file,
                  fmt::format("token {} is a byte token but not written as <0xNN>", i));
  }
  return {};
}

result<void> load_scores(const gguf_file& file, vocabulary& tokens) {
  if (file.find(scores_key) == nullptr) return {};
  const auto* array = file.get_array(scores_key);
  if (array == nullptr)
    return fail(errc::invalid_file, fmt::format("{} is not an array", scores_key));
  const bool floats = array->element == gguf_type::f32;
  if (auto checked = check_parallel(*array, scores_key, floats, tokens.pieces.size()); !checked)
    return checked;
  tokens.scores.resize(tokens.pieces.size());
  std::memcpy(tokens.scores.data(), array->bytes.data(), array->bytes.size());
  for (std::size_t i = 0; i < tokens.scores.size(); ++i)
    if (!std::isfinite(tokens.scores[i]))
      return fail(errc::invalid_file,
                  fmt::format("{}: token {} has a score that is not finite", scores_key, i));
  return {};
}

result<void> load_id(const gguf_file& file, std::string_view key,
                     std::optional<std::uint32_t> fallback, const vocabulary& tokens,
                     std::optional<token_id>& out) {
  if (file.find(key) == nullptr) {
    if (fallback && *fallback < tokens.pieces.size()) out = token_id{*fallback};
    return {};
  }
  const auto id = file.get_uint(key);
  if (!id || *id >= tokens.pieces.size())
    return fail(errc::invalid_file,
                fmt::format("{} is not the id of one of the {} tokens", key, tokens.pieces.size()));
  out = static_cast<token_id>(*id);
  return {};
}

result<void> load_flag(const gguf_file& file, std::string_view key, bool& flag) {
  if (file.find(key) == nullptr) return {};
  const auto value = file.get_bool(key);
  if (!value) return fail(errc::invalid_file, fmt::format("{} is not a boolean", key));
  flag = *value;
  return {};
}

result<void> load_special_ids(const gguf_file& file, vocabulary_family family, vocabulary& tokens) {
  struct special_id {
    std::string_view key;
    std::uint32_t sentence_piece_default;
    std::optional<token_id>* out;
  };
  for (const auto& [key, usual, out] :
       {special_id{"tokenizer.ggml.unknown_token_id", 0, &tokens.unknown},
        special_id{"tokenizer.ggml.bos_token_id", 1, &tokens.bos},
        special_id{"tokenizer.ggml.eos_token_id", 2, &tokens.eos}}) {
    std::optional<std::uint32_t> fallback;
    if (family == vocabulary_family::sentence_piece) fallback = usual;
    if (auto loaded = load_id(file, key, fallback, tokens, *out); !loaded) return loaded;
  }
  return {};
}

result<void> load_flags(const gguf_file& file, vocabulary_family family, bool add_bos,
                        vocabulary& tokens) {
  tokens.add_bos = add_bos && tokens.bos.has_value();
  tokens.add_space_prefix = family == vocabulary_family::sentence_piece;
  for (const auto& [key, flag] :
       {std::pair("tokenizer.ggml.add_bos_token", &tokens.add_bos),
        std::pair("tokenizer.ggml.add_eos_token", &tokens.add_eos),
        std::pair("tokenizer.ggml.add_space_prefix", &tokens.add_space_prefix)})
    if (auto loaded = load_flag(file, key, *flag); !loaded) return loaded;
  if (tokens.add_bos && !tokens.bos)
    return fail(errc::invalid_file,
                "tokenizer.ggml.add_bos_token is set but there is no bos_token_id");
  if (tokens.add_eos && !tokens.eos)
    return fail(errc::invalid_file,
                "tokenizer.ggml.add_eos_token is set but there is no eos_token_id");
  return {};
}

std::optional<unsigned> hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  return std::nullopt;
}

}  // namespace

std::optional<unsigned char> byte_of_piece(std::string_view piece) noexcept {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  const auto high = hex_digit(piece[3]);
  const auto low = hex_digit(piece[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<unsigned char>(*high * 16 + *low);
}

result<vocabulary> load_vocabulary(const gguf_file& file, vocabulary_family family, bool add_bos) {
  vocabulary tokens;
  auto loaded = load_pieces(file, tokens);
  if (loaded) loaded = load_kinds(file, tokens);
  if (loaded) loaded = load_scores(file, tokens);
  if (loaded) loaded = load_special_ids(file, family, tokens);
  if (loaded) loaded = load_flags(file, family, add_bos, tokens);
  if (loaded) loaded = mark_end_tokens(file, tokens);
  if (!loaded) return tl::unexpected<error>(std::move(loaded.error()));
  return tokens;
}

}  // namespace quire
