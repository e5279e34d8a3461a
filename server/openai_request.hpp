// OpenAI's request bodies, checked field by field and mapped to generations of the engine.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "actors/engine.hpp"
#include "actors/generation.hpp"
#include "server/api_error.hpp"
#include "server/http_server.hpp"

namespace quire {

enum class api_kind : std::uint8_t { chat, text };

/// A prompt that the answer repeats.
struct echoed_prompt {
  std::string text;
  std::vector<token_id> tokens;
};

/// One call of /v1/chat/completions or /v1/completions: what to generate and how to answer.
struct openai_call {
  api_kind kind = api_kind::chat;
  std::string model;                        ///< the name that the client used
  std::vector<generation_request> prompts;  ///< choice index = prompt x num_choices + choice
  std::uint32_t num_choices = 1;            ///< per prompt
  bool stream = false;
  bool include_usage = false;
  bool logprobs = false;
  std::uint32_t top_logprobs = 0;
  bool drop_output = false;           ///< max_tokens 0: only the prompt is scored
  std::vector<echoed_prompt> echoes;  ///< one per prompt, or empty
  std::string_view prompt_field() const { return kind == api_kind::chat ? "messages" : "prompt"; }
};

/// What requests are checked against.
struct call_limits {
  const engine* served_engine = nullptr;
  const served_model* served = nullptr;
};

/// Reads a chat request. Errors: 400 naming the field, 404 model_not_found.
api_result<openai_call> read_chat_call(const nlohmann::ordered_json& body,
                                       const call_limits& limits);

/// Reads a text completion request. Errors: 400 naming the field, 404 model_not_found.
api_result<openai_call> read_text_call(const nlohmann::ordered_json& body,
                                       const call_limits& limits);

/// Returns the name to answer with. Errors: 404 model_not_found, 400 when it is not a string.
api_result<std::string> read_model_name(const nlohmann::ordered_json& body,
                                        const call_limits& limits);

}  // namespace quire
