// The sequences that are being computed: turns the planner's choice into a lease, the leased pages
// into a step, and the step's result into news for the requests. Pure data in and out.
//
// The hot loop runs here without asking the requests: a sampled token goes straight back into the
// next step. Requests hear of it at the same time and may stop their sequence, in which case one
// token too many may have been computed; nobody sees it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "actors/batch_planner.hpp"
#include "actors/cache_accounts.hpp"
#include "actors/departures.hpp"
#include "actors/generation.hpp"
#include "actors/step.hpp"

namespace quire {

class tokenizer;

/// What a request hands over when its sequence may be computed.
struct batch_entry {
  request_id request{};
  std::uint32_t choice = 0;
  sequence_id sequence{};
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint32_t first_position = 0;  ///< tokens already stored
  /// What was generated before the request gave its pages up: computed again as if it were prompt.
  std::vector<token_id> output;
  std::uint32_t prefill_end = 0;  ///< run prompt and output up to here; > first_position
  bool decodes = false;           ///< it came back while decoding: all but its last token is stored
  bool generate = true;           ///< then sample; else the sequence leaves the batch
  std::uint32_t max_new_tokens = 0;
  std::uint32_t budget_tokens = 0;  ///< new tokens that the pages suffice for; there it pauses
  bool stop_at_end = true;          ///< the model's end tokens end the generation
  std::optional<std::uint32_t>
      score_from;  ///< report prompt tokens' log-probabilities from here on
  std::shared_ptr<const sampling_params> sampling;
  int priority = 0;
  std::string user;  ///< whom fairness counts it for
};

/// What a step did for one sequence.
struct batch_news {
  sequence_id sequence{};
  moment first_step;                        ///< when its first step was planned
  bool prefilled = false;                   ///< the prompt part is complete with this step
  std::vector<step_output::scored> scores;  ///< all of them, when prefilled
  std::optional<sampled_token> token;
  std::optional<finish_reason> ended;  ///< the sequence has left the batch
  bool parked = false;  ///< it has left the batch because its pages have left the pool
};

class running_batch {
 public:
  struct counters {
    std::uint64_t steps = 0;
    std::uint64_t failed_steps = 0;
    std::uint64_t prefilled_tokens = 0;  ///< prompt tokens computed
    std::uint64_t generated_tokens = 0;
    std::uint64_t surplus_tokens = 0;  ///< computed for sequences that had been stopped
    std::uint64_t trimmed_bytes = 0;   ///< resident memory that went back to the system
  };

  running_batch(std::shared_ptr<const tokenizer> vocabulary, std::chrono::milliseconds aging);

  void add(batch_entry entry, moment now);
  /// The budget of a sequence has grown; it goes on if it had paused. Unknown ones are ignored.
  void allow(sequence_id sequence, std::uint32_t budget_tokens);
  /// Leaves a sequence out of the steps to come, or no longer. Unknown ones are ignored.
  void hold(sequence_id sequence, bool held);
  /// Takes a sequence out, also in the middle of a step; unknown ones are ignored.
  void remove(sequence_id sequence);
  /// Whether there is nothing to compute (sequences may be pausing).
  bool empty() const noexcept { return planner_.empty(); }
  std::size_t size() const noexcept { return entries_.size(); }

  /// Plans a step and returns what it needs of the cache manager.
  std::vector<lease_item> plan(const step_limits& limits, moment now);
  /// Builds the step from the pages granted. Sequences that got none are left out.
  step_plan assemble(step_pages pages);
  /// Sequences that got pages in assemble but were stopped meanwhile: they are not in the step.
  const std::vector<sequence_id>& not_run() const noexcept { return not_run_; }
  /// Applies the result of the step that was assembled last, in its order.
  std::vector<batch_news> apply(step_result result);
  /// The step failed: its sequences leave the batch and are returned.
  std::vector<sequence_id> fail();

  /// What the step that was assembled last does.
  const step_speed::work& step_work() const noexcept { return work_; }
  /// Tokens stored of the prompt that is first in line, for what its next ones cost.
  std::uint32_t prefill_context() const;
  /// Notes that a step ended `seconds` after the one before.
  void stepped(double seconds) { departures_.stepped(seconds); }
  /// Seconds until the first of the sequences that generate will probably have ended; nothing when
  /// none does, or without experience. O(sequences).
  std::optional<double> next_departure() const;
  const counters& counts() const noexcept { return counts_; }

 private:
  struct running {
    batch_entry entry;
    std::uint32_t position = 0;  ///< tokens stored
    std::vector<token_id> output;
    std::vector<step_output::scored> scores;
    std::optional<moment> first_step;
    bool penalized = false;  ///< sampling reads the history
    bool paused = false;     ///< at the end of its budget
    bool held = false;       ///< its reader is slow
    moment added;
  };
  struct in_flight {
    sequence_id sequence{};
    std::uint32_t tokens = 0;
    bool decode = false;
  };
  step_sequence make_sequence(running& from, const in_flight& part, lease_grant grant) const;
  void note_work(std::uint32_t position, const in_flight& part);
  void let_go_on(const running& of);
  batch_news advance(running& of, const in_flight& part, step_output output);
  void sampled(running& of, sampled_token token, batch_news& news);

  std::shared_ptr<const tokenizer> vocabulary_;
  batch_planner planner_;
  std::unordered_map<sequence_id, running> entries_;
  std::vector<in_flight> planned_;
  std::vector<sequence_id> not_run_;
  step_speed::work work_;
  departures departures_;
  counters counts_;
};

}  // namespace quire
