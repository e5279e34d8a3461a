#include "cli/bench_prompts.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace quire::cli {
namespace {

// A space and three or more lower-case letters.
bool is_word(std::string_view text) {
  return text.size() >= 4 && text.front() == ' ' &&
         std::ranges::all_of(text.substr(1), [](char c) { return c >= 'a' && c <= 'z'; });
}

// Fewer different words than this would repeat so often that prompts are no longer different.
constexpr std::size_t min_words = 256;

}  // namespace

result<word_prompts> word_prompts::make(const tokenizer& vocabulary, std::uint64_t seed) {
  word_prompts prompts;
  for (std::uint32_t i = 0; i < vocabulary.vocabulary_size(); ++i)
    if (!vocabulary.is_control(token_id{i}) && is_word(vocabulary.bytes(token_id{i})))
      prompts.words_.push_back(token_id{i});
  if (prompts.words_.size() < min_words)
    return fail(errc::unsupported,
                "the model's vocabulary has too few plain words to make random prompts from");
  if (vocabulary.adds_bos() && vocabulary.bos()) prompts.start_.push_back(*vocabulary.bos());
  prompts.random_.seed(seed);
  return prompts;
}

std::vector<token_id> word_prompts::prompt(std::size_t num_tokens) {
  return prompt_after(start_, num_tokens);
}

std::vector<token_id> word_prompts::prompt_after(const std::vector<token_id>& prefix,
                                                 std::size_t num_tokens) {
  std::vector<token_id> tokens(
      prefix.begin(),
      prefix.begin() + static_cast<std::ptrdiff_t>(std::min(prefix.size(), num_tokens)));
  std::uniform_int_distribution<std::size_t> pick(0, words_.size() - 1);
  while (tokens.size() < num_tokens) tokens.push_back(words_[pick(random_)]);
  return tokens;
}

}  // namespace quire::cli
