// Who takes part in the next step, and with how many tokens: decodes first, one token each, then
// chunks of prompts under the step's token and time budgets. Pure; called once per step.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "actors/moment.hpp"
#include "core/ids.hpp"

namespace quire {

/// Learns how long steps take on this machine, from the steps themselves.
class step_speed {
 public:
  /// Notes a finished step of `decodes` single tokens and `prefill_tokens` prompt tokens.
  void observe(std::uint32_t decodes, std::uint32_t prefill_tokens, double seconds);
  /// Returns how many prompt tokens fit beside the decodes in `seconds`; nothing before there is
  /// experience of both.
  std::optional<std::uint32_t> prefill_tokens_within(double seconds) const;

 private:
  double decode_step_seconds_ = 0;
  double prefill_token_seconds_ = 0;
};

/// Bounds of one step.
struct step_limits {
  std::uint32_t max_streams = 256;  ///< sequences
  std::uint32_t step_tokens = 512;  ///< prompt tokens
  /// Prompt tokens when somebody decodes, so that a prompt does not hold up the others' next token.
  std::uint32_t step_tokens_beside_decodes = 512;
};

class batch_planner {
 public:
  struct part {
    sequence_id sequence{};
    std::uint32_t tokens = 0;
    bool decode = false;
  };

  /// No chunk is smaller than this unless the prompt ends or the step's budget is smaller: smaller
  /// ones waste the matrix kernels.
  static constexpr std::uint32_t least_chunk = 32;

  explicit batch_planner(std::chrono::milliseconds aging) : aging_(aging) {}

  /// A sequence that has `tokens` (> 0) prompt tokens to run before it decodes.
  void add(sequence_id sequence, std::uint32_t tokens, int priority, moment now);
  /// The sequence ran `tokens` prompt tokens; returns whether its prompt is complete, which makes it
  /// a decoding one.
  bool advance(sequence_id sequence, std::uint32_t tokens);
  /// Takes a decoding sequence out of the plans, and back in.
  void pause(sequence_id sequence) { remove(sequence); }
  void resume(sequence_id sequence) { decoding_.push_back(sequence); }
  /// Unknown sequences are ignored. O(sequences).
  void remove(sequence_id sequence);
  bool empty() const noexcept { return decoding_.empty() && filling_.empty(); }
  std::size_t decoding() const noexcept { return decoding_.size(); }
  std::size_t filling() const noexcept { return filling_.size(); }

  /// Chooses the next step's parts. When more sequences decode than fit they take turns. Half of
  /// the prompt budget goes to the prompt that is first in line, so each advances; the rest to the
  /// shortest, so that small prompts do not stand behind long ones.
  std::vector<part> plan(const step_limits& limits);

 private:
  struct unfinished {
    sequence_id sequence{};
    std::uint32_t tokens = 0;
    moment counts_from;
  };
  void plan_prompts(std::uint32_t tokens, std::size_t streams, std::vector<part>& parts) const;

  std::chrono::milliseconds aging_;
  std::vector<sequence_id> decoding_;
  std::size_t next_turn_ = 0;       ///< who decodes first when not all fit
  std::vector<unfinished> filling_;    ///< first in line first
};

}  // namespace quire
