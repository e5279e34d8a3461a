// Who takes part in the next step, and with how many tokens: decodes first, one token each, then
// chunks of prompts under the step's token and time budgets. Pure; called once per step.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/moment.hpp"
#include "core/ids.hpp"

namespace quire {

/// Learns how long steps take on this machine, from the steps themselves. A prompt token costs its
/// products, the same for all, and its attention, which grows with the tokens before it: both are
/// fitted (least squares, old steps forgotten).
class step_speed {
 public:
  /// What a step did.
  struct work {
    std::uint32_t decodes = 0;         ///< single tokens
    std::uint32_t prefill_tokens = 0;  ///< prompt tokens
    double prefill_pairs = 0;          ///< sum over those of the tokens before each
  };
  void observe(const work& done, double seconds);
  /// Returns how long a step that does this takes; nothing before there is experience of its like.
  std::optional<double> expect(const work& planned) const;
  /// Returns how long the decodes of late take alone; 0 before there were any.
  double decode_step_seconds() const noexcept { return decode_step_seconds_; }
  /// Returns how many prompt tokens that follow `context` others fit beside the decodes of late in
  /// `seconds`; nothing before a prompt was computed.
  std::optional<std::uint32_t> prefill_tokens_within(double seconds, double context) const;
  /// Returns the least seconds that a prompt of `tokens` after `context` cached ones and then
  /// `new_tokens` steps take; nothing before there is experience of both.
  std::optional<double> forecast(std::uint32_t tokens, std::uint32_t context,
                                 std::uint32_t new_tokens) const;

 private:
  double decode_step_seconds_ = 0;
  double token_seconds_ = 0;
  double pair_seconds_ = 0;
  /// Sums of products of tokens, pairs and seconds, exponentially forgotten.
  struct {
    double tokens_tokens = 0, tokens_pairs = 0, pairs_pairs = 0, tokens_seconds = 0,
           pairs_seconds = 0;
  } sums_;
};

/// The time that steps with prompts aim at, so that hardly one takes longer than allowed: it leaves
/// as much as the latest of recent steps, of decodes alone too, took longer than expected.
class step_aim {
 public:
  /// Notes a step that took `seconds` where `expected` were expected and `allowed` allowed.
  void observe(double seconds, double expected, double allowed);
  /// Returns the seconds to plan for.
  double aim(double allowed) const;

 private:
  double late_ = 0.3;  // of the allowed time; fades, by half in 35 steps
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
  /// Beside decodes a step's rows are a multiple of this if prompts can spare the rest: kernels
  /// take 16 rows at a time, of which each of two threads or more has its own.
  static constexpr std::uint32_t whole_rows = 32;

  explicit batch_planner(std::chrono::milliseconds aging) : aging_(aging) {}

  /// A sequence that has `tokens` (> 0) prompt tokens to run before it decodes. Of several users
  /// the one whose prompts were given the fewest tokens is first in line.
  void add(sequence_id sequence, std::uint32_t tokens, int priority, moment now,
           const std::string& user = {});
  /// The sequence ran `tokens` prompt tokens; returns whether its prompt is complete, which makes
  /// it a decoding one.
  bool advance(sequence_id sequence, std::uint32_t tokens);
  /// Takes a decoding sequence out of the plans, and back in.
  void pause(sequence_id sequence) { remove(sequence); }
  void resume(sequence_id sequence) { decoding_.push_back(sequence); }
  /// Unknown sequences are ignored. O(sequences).
  void remove(sequence_id sequence);
  bool empty() const noexcept { return decoding_.empty() && filling_.empty(); }
  std::size_t decoding() const noexcept { return decoding_.size(); }
  std::size_t filling() const noexcept { return filling_.size(); }
  /// The prompt that is first in line.
  std::optional<sequence_id> first_in_line() const;

  /// Chooses the next step's parts. When more sequences decode than fit they take turns. Half of
  /// the prompt budget goes to the prompt that is first in line, so each advances; the rest to the
  /// shortest, so that small prompts do not stand behind long ones.
  std::vector<part> plan(const step_limits& limits);

 private:
  struct unfinished {
    sequence_id sequence{};
    std::uint32_t tokens = 0;
    moment counts_from;
    std::string user;
    double head_start = 0;  ///< of its priority, in tokens
  };
  std::size_t first() const;
  void forget_idle(const std::string& user);
  void plan_prompts(std::uint32_t tokens, std::size_t streams, std::vector<part>& parts) const;

  std::chrono::milliseconds aging_;
  std::vector<sequence_id> decoding_;
  std::size_t next_turn_ = 0;            ///< who decodes first when not all fit
  std::vector<unfinished> filling_;      ///< by arrival
  std::map<std::string, double> given_;  ///< prompt tokens, of the users that have prompts here
};

}  // namespace quire
