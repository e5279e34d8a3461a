// OpenAI's answers: turns the events of a call into stream chunks or into one body.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "actors/generation.hpp"
#include "models/tokenizer.hpp"
#include "server/openai_request.hpp"

namespace quire {

/// What every chunk of an answer repeats.
struct answer_identity {
  std::string id;
  std::int64_t created = 0;  ///< seconds since 1970
  std::string model;
};

/// Collects the answer to one call. When the call streams, chunks come out as server-sent events
/// while the events go in; else everything is kept for body(). Not thread-safe.
class openai_answer {
 public:
  /// `vocabulary` outlives the answer.
  openai_answer(const openai_call& call, answer_identity identity, const tokenizer& vocabulary);

  /// Takes the next event of a prompt; appends the stream's bytes, if any, to `out`.
  void take(std::size_t prompt, generation_event event, std::string& out);

  bool admitted() const noexcept { return num_admitted_ == num_prompts_; }
  /// Whether every choice has finished.
  bool complete() const noexcept { return num_finished_ == choices_.size(); }
  const std::optional<error>& failure() const noexcept { return failure_; }

  /// Appends the usage chunk, if asked for, and the end mark of a complete stream.
  void append_end(std::string& out) const;
  /// Returns the one body of a complete call that does not stream.
  nlohmann::ordered_json body() const;

 private:
  struct choice_state {
    std::string text;
    nlohmann::ordered_json logprobs = nlohmann::ordered_json::array();  // text: an object of lists
    std::uint64_t text_offset = 0;                                      // code points so far
    bool opened = false;
    std::optional<finish_reason> reason;
  };

  void open(std::size_t index, std::string& out);
  void take_delta(std::size_t index, delta_event delta, std::string& out);
  void take_finish(std::size_t prompt, std::size_t index, const finished_event& event,
                   std::string& out);
  void emit(std::size_t index, nlohmann::ordered_json delta, nlohmann::ordered_json logprobs,
            nlohmann::ordered_json reason, std::string& out) const;
  nlohmann::ordered_json frame(const char* object) const;
  nlohmann::ordered_json usage() const;
  nlohmann::ordered_json chat_logprobs(const std::vector<sampled_token>& tokens) const;
  nlohmann::ordered_json text_logprobs(const std::vector<sampled_token>& tokens,
                                       choice_state& of) const;
  nlohmann::ordered_json echo_logprobs(std::size_t prompt, choice_state& of) const;

  answer_identity identity_;
  const tokenizer* vocabulary_;
  api_kind kind_;
  bool stream_;
  bool include_usage_;
  bool logprobs_;
  bool drop_output_;
  std::vector<echoed_prompt> echoes_;
  std::size_t num_prompts_;
  std::uint32_t choices_per_prompt_;
  std::vector<choice_state> choices_;
  std::vector<std::vector<prompt_logprobs_event::entry>> prompt_scores_;  // per prompt
  std::vector<std::uint32_t> prompt_tokens_;                              // per prompt
  std::vector<std::uint32_t> cached_tokens_;                              // per prompt
  std::uint64_t completion_tokens_ = 0;
  std::size_t num_admitted_ = 0;
  std::size_t num_finished_ = 0;
  std::optional<error> failure_;
};

}  // namespace quire
