#include "actors/choice_text.hpp"

#include <utility>

namespace quire {

choice_text::choice_text(const tokenizer& vocabulary, std::uint32_t choice,
                         std::vector<std::string> stops, bool with_tokens, bool stop_at_end)
    : vocabulary_(&vocabulary),
      choice_(choice),
      with_tokens_(with_tokens),
      stop_at_end_(stop_at_end),
      text_(vocabulary),
      stops_(std::move(stops)) {}

std::optional<delta_event> choice_text::push(sampled_token token) {
  if (stopped()) return std::nullopt;
  ++num_tokens_;
  if (stop_at_end_ && vocabulary_->is_end(token.token)) {
    ended_ = true;
    return std::nullopt;
  }
  const std::string text = text_.push(token.token);
  if (with_tokens_) untold_.push_back({decoded_, std::move(token)});
  decoded_ += text.size();
  return tell(stops_.push(text), false);
}

std::optional<delta_event> choice_text::finish() {
  if (stops_.stopped()) return std::nullopt;
  const std::string text = text_.finish();
  decoded_ += text.size();
  std::string shown = stops_.push(text);
  shown += stops_.finish();
  return tell(std::move(shown), !stops_.stopped());
}

std::optional<delta_event> choice_text::tell(std::string text, bool all) {
  delta_event event;
  event.choice = choice_;
  told_ += text.size();
  // A token is told with the first of its bytes; one whose bytes are still incomplete waits, and
  // one that lies wholly in a stop string is never told.
  while (!untold_.empty() && (all || untold_.front().starts_at < told_)) {
    event.tokens.push_back(std::move(untold_.front().token));
    untold_.pop_front();
  }
  if (text.empty() && event.tokens.empty()) return std::nullopt;
  event.text = std::move(text);
  return event;
}

}  // namespace quire
