// One engine step as data: what the batcher plans, what the model runner computes, what comes back.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "actors/cache_terms.hpp"
#include "core/error.hpp"
#include "core/ids.hpp"
#include "memory/page_store.hpp"
#include "models/sampling.hpp"

namespace quire {

/// One sequence's part of a step.
struct step_sequence {
  sequence_id sequence{};
  std::vector<page_id> table;        ///< covers first_position + tokens.size()
  std::uint32_t first_position = 0;  ///< tokens already stored
  std::vector<token_id> tokens;      ///< to run now: a prefill chunk, or the last sampled token
  bool sample = false;               ///< pick a token after the last one
  std::uint64_t sample_index = 0;    ///< how many tokens the request has generated before
  std::shared_ptr<const sampling_params> sampling;
  /// History for penalties: (prompt, output so far); only read when a penalty is set.
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::vector<token_id> output;
  /// For scoring: score[i] is the token that follows tokens[first_scored + i]; empty for none.
  std::uint32_t first_scored = 0;
  std::vector<token_id> score;
};

/// Immutable once sent. The tables stay valid and their pages unmoved until the step's lease ends.
struct step_plan {
  std::uint64_t step = 0;
  page_exchange exchange;                ///< bytes that leave and come back, before the copies
  std::vector<page_copy> copies;         ///< to apply before anything is read
  std::vector<step_sequence> sequences;  ///< may be empty: then there are copies or pages to trim
  /// Pages from here to the end of the pool hold nothing: their memory may go back to the system.
  std::optional<std::uint32_t> trim_from_page;
};

struct step_output {
  sequence_id sequence{};
  bool sampled = false;
  sampled_token token;
  struct scored {
    float logprob = 0.0f;
    token_id best{};
    float best_logprob = std::numeric_limits<float>::quiet_NaN();  ///< of `best`; NaN: not known
  };
  std::vector<scored> scores;  ///< one per step_sequence::score
};

/// Seconds of each phase of a step, on the runner's clock.
struct step_timings {
  double copy = 0;
  double forward = 0;
  double sample = 0;
};

struct step_result {
  std::uint64_t step = 0;
  std::vector<step_output> outputs;  ///< in the plan's order
  step_timings timings;
  std::uint64_t trimmed_bytes = 0;  ///< resident memory that went back to the system
};

/// A step's result, or why there is none.
struct step_outcome {
  std::uint64_t step = 0;
  result<step_result> computed;
  std::vector<park_id> not_exchanged;  ///< copies that could not be made or read back
  double exchange_seconds = 0;
};

/// Computes steps. The model behind it or, in tests, a script. Used by one thread at a time.
class step_executor {
 public:
  virtual ~step_executor() = default;
  /// Parks and restores pages. Returns the copies that could not be made or read back; whatever run
  /// does afterwards, all others are done.
  virtual std::vector<park_id> exchange(const page_exchange& orders) = 0;
  virtual result<step_result> run(const step_plan& plan) = 0;
};

}  // namespace quire
