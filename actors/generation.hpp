// What a caller asks of the engine and what it hears back. Plain data: no actors in sight.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"
#include "models/sampling.hpp"

namespace quire {

/// Text to continue as it stands.
struct text_prompt {
  std::string text;
  bool parse_special = true;  ///< control tokens written in the text count as such
};

/// Variables for the model's chat template: {"messages": [...], "tools": ..., ...}.
struct chat_prompt {
  nlohmann::ordered_json variables;
};

/// One generation, possibly with several choices.
struct generation_request {
  std::variant<text_prompt, std::vector<token_id>, chat_prompt> prompt;
  sampling_params sampling;
  std::uint32_t max_tokens = 0;   ///< 0: until the context is full
  std::uint32_t num_choices = 1;  ///< forks of one prompt; choice i uses seed + i
  std::vector<std::string> stop;  ///< generation ends before any of these
  bool ignore_eos = false;
  bool use_prefix_cache = true;
  /// Report the log-probability of prompt tokens from this position on (perplexity, echo). The
  /// token at position 0 has none.
  std::optional<std::uint32_t> prompt_logprobs_from;
  /// Only score the prompt: nothing is generated, whatever max_tokens says, and each choice ends
  /// with `length` and no text. Needs prompt_logprobs_from and one choice.
  bool score_only = false;
  int priority = 0;                                   ///< higher goes first
  std::optional<std::chrono::milliseconds> deadline;  ///< from submission
  std::string user;                                   ///< whom fairness counts this for
};

enum class finish_reason : std::uint8_t { stop, length, cancelled };

/// What a finished request consumed and how long it took.
struct generation_usage {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t completion_tokens = 0;
  std::uint32_t cached_tokens = 0;  ///< prompt tokens that were found in the prefix index
  double queued_seconds = 0;        ///< submission to the first prefill step
  double first_token_seconds = 0;   ///< submission to the first token
  double total_seconds = 0;
};

/// The request was accepted and its prompt tokenized.
struct admitted_event {
  std::uint32_t prompt_tokens = 0;
};

/// Text that became complete, for one choice. `tokens` explains it when logprobs were asked for.
struct delta_event {
  std::uint32_t choice = 0;
  std::string text;
  std::vector<sampled_token> tokens;
};

/// Log-probabilities of the prompt, in order, from prompt_logprobs_from on: entry i is for the
/// prompt token at that position + i. `best` is the model's most likely token there.
struct prompt_logprobs_event {
  struct entry {
    token_id token{};
    token_id best{};
    float logprob = 0.0f;
    float best_logprob = std::numeric_limits<float>::quiet_NaN();  ///< of `best`; NaN: not known
  };
  std::uint32_t first_position = 0;
  std::vector<entry> entries;
};

/// One choice ended.
struct finished_event {
  std::uint32_t choice = 0;
  finish_reason reason = finish_reason::stop;
  generation_usage usage;
};

/// The request failed as a whole; nothing follows.
struct failed_event {
  error why;
};

using generation_event =
    std::variant<admitted_event, delta_event, prompt_logprobs_event, finished_event, failed_event>;

/// Hears the events of one request, in order: admitted, then deltas, then one finished per choice;
/// or failed at any point. Called from engine threads, never two calls at once for one request;
/// must not block and must not throw.
class generation_listener {
 public:
  virtual ~generation_listener() = default;
  virtual void on_event(generation_event event) noexcept = 0;
};

}  // namespace quire
