#include "models/end_tokens.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

namespace quire {

namespace {

constexpr std::array<std::string_view, 22> ending_texts{
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\xef\xbd\x9c"
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
    "[e~["};

/// A token with a role that the file names by id, or that is known by one of several texts.
struct role {
  std::string_view key;
  std::span<const std::string_view> texts;
};

constexpr std::array<std::string_view, 1> turn_message_texts{"<|eom_id|>"};
constexpr std::array<std::string_view, 5> fim_pad_texts{"<|fim_pad|>", "<fim-pad>", "<fim_pad>",
                                                        "<PAD>", "[PAD]"};
constexpr std::array<std::string_view, 5> fim_repo_texts{"<|fim_repo|>", "<|repo_name|>",
                                                         "<fim-repo>", "<REPO>", "<reponame>"};
constexpr std::array<std::string_view, 1> fim_file_texts{"<|file_sep|>"};

const std::array<role, 5> ending_roles{{
    {"tokenizer.ggml.eot_token_id", {}},  // its texts are all in ending_texts
    {"tokenizer.ggml.eom_token_id", turn_message_texts},
    {"tokenizer.ggml.fim_pad_token_id", fim_pad_texts},
    {"tokenizer.ggml.fim_rep_token_id", fim_repo_texts},
    {"tokenizer.ggml.fim_sep_token_id", fim_file_texts},
}};

bool ends_at(const vocabulary& tokens, std::string_view text) {
  const std::uint32_t id = tokens.by_text.find(text);
  return id != no_token && tokens.ends[id];
}

/// Takes back an end that other tokens show to be an ordinary token of this model.
void unmark(vocabulary& tokens, std::string_view text, token_kind kind) {
  const std::uint32_t id = tokens.by_text.find(text);
  if (id == no_token || !tokens.ends[id]) return;
  tokens.ends[id] = false;
  tokens.kinds[id] = kind;
}

}  // namespace

result<void> mark_end_tokens(const gguf_file& file, vocabulary& tokens) {
  tokens.ends.assign(tokens.pieces.size(), false);
  const auto mark_text = [&](std::uint32_t id) {
    tokens.ends[id] = true;
    tokens.kinds[id] = token_kind::control;
  };
  for (const auto& role : ending_roles) {
    if (file.find(role.key) != nullptr) {
      const auto id = file.get_uint(role.key);
      if (!id || *id >= tokens.pieces.size())
        return fail(errc::invalid_file, fmt::format("{} is not the id of one of the {} tokens",
                                                    role.key, tokens.pieces.size()));
      tokens.ends[*id] = true;
      continue;
    }
    std::uint32_t first = no_token;
    for (const auto text : role.texts) first = std::min(first, tokens.by_text.find(text));
    if (first != no_token) mark_text(first);
  }
  for (const auto text : ending_texts)
    if (const std::uint32_t id = tokens.by_text.find(text); id != no_token) mark_text(id);
  // The harmony format talks in channels with these: a reader must see them.
  for (const std::string_view text : {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
    if (const std::uint32_t id = tokens.by_text.find(text); id != no_token)
      tokens.kinds[id] = token_kind::user_defined;
  if (tokens.eos) tokens.ends[to_index(*tokens.eos)] = true;

  const bool calls = ends_at(tokens, "<|call|>") || ends_at(tokens, "<|calls|>");
  if (calls && (ends_at(tokens, "<|return|>") || ends_at(tokens, "<|flush|>")))
    unmark(tokens, "<|end|>", token_kind::user_defined);
  if (ends_at(tokens, "<|tool_response>")) unmark(tokens, "</s>", token_kind::normal);
  return {};
}

}  // namespace quire
