// From logits to the next token: pure functions of one request's parameters, seed and history, so
// that a request's output never depends on who shares the batch.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/ids.hpp"

namespace quire {

/// How a request picks tokens. The defaults are those of config/default.yaml.
struct sampling_params {
  float temperature = 0.8f;         ///< 0: greedy
  std::uint32_t top_k = 40;         ///< 0: off
  float top_p = 0.95f;              ///< 1: off
  float min_p = 0.05f;              ///< 0: off
  float repetition_penalty = 1.0f;  ///< 1: off; divides or multiplies logits of seen tokens
  float presence_penalty = 0.0f;    ///< subtracted once for every seen output token
  float frequency_penalty = 0.0f;   ///< subtracted per occurrence in the output
  std::uint64_t seed = 0;
  std::vector<std::pair<token_id, float>> logit_bias;
  std::uint32_t top_logprobs = 0;  ///< alternatives to report, 0..20
  bool logprobs = false;           ///< report the log-probability of the chosen token
};

struct token_logprob {
  token_id token{};
  float logprob = 0.0f;  ///< natural logarithm under the model's own distribution (temperature 1)
};

struct sampled_token {
  token_id token{};
  float logprob = 0.0f;
  std::vector<token_logprob> top;  ///< best first; empty unless asked for
};

/// Picks a token from one row of logits, which it may overwrite. Order: bias and penalties, then
/// temperature, top-k, top-p over what top-k kept, min-p relative to the most likely token; ties go
/// to the smaller token id. The random number is a counter-based hash of (seed, index), index being
/// the number of tokens the request has generated, so that any step can be repeated. `prompt` and
/// `output` are its history: the repetition penalty counts both (Keskar et al. 2019), the other two
/// only the output, as OpenAI's API does. Cost: O(vocabulary), without sorting all of it.
sampled_token sample(std::span<float> logits, const sampling_params& params, std::uint64_t index,
                     std::span<const token_id> prompt, std::span<const token_id> output);

/// Returns ln softmax(logits)[token].
float logprob_of(std::span<const float> logits, token_id token) noexcept;

/// Returns the token with the largest logit, the smallest id among equals.
token_id most_likely(std::span<const float> logits) noexcept;

/// Returns a number in [0, 1) that depends on its arguments alone (SplitMix64, Steele et al. 2014).
double random_unit(std::uint64_t seed, std::uint64_t index) noexcept;

}  // namespace quire
