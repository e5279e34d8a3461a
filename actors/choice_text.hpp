// Turns the tokens of one choice into the text and the events that its listener hears. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/generation.hpp"
#include "actors/stop_matcher.hpp"
#include "models/tokenizer.hpp"

namespace quire {

class choice_text {
 public:
  /// `vocabulary` outlives the object.
  choice_text(const tokenizer& vocabulary, std::uint32_t choice, std::vector<std::string> stops,
              bool with_tokens, bool stop_at_end);

  /// Takes the next token; returns what may be told now, if anything.
  std::optional<delta_event> push(sampled_token token);
  /// Nothing more will come: returns what was held back, if anything.
  std::optional<delta_event> finish();
  /// A stop string or the end token was met: the generation is over.
  bool stopped() const noexcept { return ended_ || stops_.stopped(); }
  std::uint32_t num_tokens() const noexcept { return num_tokens_; }

 private:
  std::optional<delta_event> tell(std::string text, bool all);

  const tokenizer* vocabulary_;
  std::uint32_t choice_;
  bool with_tokens_;
  bool stop_at_end_;
  detokenizer text_;
  stop_matcher stops_;
  bool ended_ = false;
  std::uint32_t num_tokens_ = 0;
  struct untold {
    std::size_t starts_at = 0;  ///< byte of the choice's text
    sampled_token token;
  };
  std::deque<untold> untold_;
  std::size_t decoded_ = 0;  ///< bytes the tokens so far gave
  std::size_t told_ = 0;     ///< bytes told
};

}  // namespace quire
