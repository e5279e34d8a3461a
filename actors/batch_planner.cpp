#include "actors/batch_planner.hpp"

#include <algorithm>

namespace quire {

namespace {
/// Weight of the newest step in what is remembered: about ten steps.
constexpr double newest_weight = 0.2;

void learn(double& known, double seen) {
  known = known == 0 ? seen : known + newest_weight * (seen - known);
}
}  // namespace

void step_speed::observe(std::uint32_t decodes, std::uint32_t prefill_tokens, double seconds) {
  if (prefill_tokens == 0) {
    if (decodes > 0) learn(decode_step_seconds_, seconds);
    return;
  }
  const double beside = decodes > 0 ? decode_step_seconds_ : 0.0;
  // Short chunks say more about the decodes beside them than about prompts.
  if (prefill_tokens >= batch_planner::least_chunk / 2)
    learn(prefill_token_seconds_, std::max(seconds - beside, seconds * 0.1) / prefill_tokens);
}

std::optional<std::uint32_t> step_speed::prefill_tokens_within(double seconds) const {
  if (decode_step_seconds_ == 0 || prefill_token_seconds_ == 0) return std::nullopt;
  const double left = std::max(seconds - decode_step_seconds_, 0.0);
  return static_cast<std::uint32_t>(std::min(left / prefill_token_seconds_, 1e9));
}

void batch_planner::add(sequence_id sequence, std::uint32_t tokens, int priority, moment now) {
  const unfinished added{sequence, tokens, now - aging_ * std::clamp(priority, -1000, 1000)};
  const auto at = std::upper_bound(
      filling_.begin(), filling_.end(), added,
      [](const unfinished& a, const unfinished& b) { return a.counts_from < b.counts_from; });
  filling_.insert(at, added);
}

bool batch_planner::advance(sequence_id sequence, std::uint32_t tokens) {
  const auto at = std::find_if(filling_.begin(), filling_.end(),
                               [&](const unfinished& f) { return f.sequence == sequence; });
  if (at == filling_.end()) return false;
  at->tokens -= std::min(at->tokens, tokens);
  if (at->tokens > 0) return false;
  filling_.erase(at);
  decoding_.push_back(sequence);
  return true;
}

void batch_planner::remove(sequence_id sequence) {
  std::erase_if(filling_, [&](const unfinished& f) { return f.sequence == sequence; });
  const auto at = std::find(decoding_.begin(), decoding_.end(), sequence);
  if (at == decoding_.end()) return;
  // Turns continue with the one that would have been next.
  if (static_cast<std::size_t>(at - decoding_.begin()) < next_turn_) --next_turn_;
  decoding_.erase(at);
}

std::vector<batch_planner::part> batch_planner::plan(const step_limits& limits) {
  std::vector<part> parts;
  // A full house of decodes must not keep prompts out forever: they get one place in eight.
  const std::size_t kept = filling_.empty() ? 0 : std::max<std::size_t>(limits.max_streams / 8, 1);
  const std::size_t places =
      std::max<std::size_t>(limits.max_streams - std::min<std::size_t>(kept, limits.max_streams), 1);
  const std::size_t decodes = std::min(decoding_.size(), places);
  parts.reserve(decodes + filling_.size());
  if (decodes == decoding_.size()) next_turn_ = 0;
  for (std::size_t i = 0; i < decodes; ++i)
    parts.push_back({decoding_[(next_turn_ + i) % decoding_.size()], 1, true});
  if (decodes < decoding_.size()) next_turn_ = (next_turn_ + decodes) % decoding_.size();
  const std::uint32_t budget = decodes == 0
                                   ? limits.step_tokens
                                   : std::min(limits.step_tokens, limits.step_tokens_beside_decodes);
  if (decodes < limits.max_streams) plan_prompts(budget, limits.max_streams - decodes, parts);
  return parts;
}

void batch_planner::plan_prompts(std::uint32_t tokens, std::size_t streams,
                                 std::vector<part>& parts) const {
  if (filling_.empty() || tokens == 0) return;
  // Only so many can get a chunk worth computing.
  const std::size_t most =
      std::min({streams, filling_.size(), std::size_t{tokens / least_chunk + 1}});
  std::vector<const unfinished*> rest;
  for (std::size_t i = 1; i < filling_.size(); ++i) rest.push_back(&filling_[i]);
  std::stable_sort(rest.begin(), rest.end(),
                   [](const unfinished* a, const unfinished* b) { return a->tokens < b->tokens; });
  const unfinished& first = filling_.front();
  std::uint32_t left = tokens;
  std::uint32_t firsts = std::min(first.tokens, std::max(tokens / 2, std::min(tokens, least_chunk)));
  left -= firsts;
  const std::size_t place = parts.size();
  parts.push_back({first.sequence, 0, false});
  for (const unfinished* next : rest) {
    if (parts.size() - place >= most || left == 0) break;
    // The first in line goes on before a prompt that is longer than what it has left itself.
    if (next->tokens > first.tokens - firsts) {
      const std::uint32_t more = std::min(left, first.tokens - firsts);
      firsts += more;
      left -= more;
    }
    const std::uint32_t chunk = std::min(left, next->tokens);
    if (chunk == 0 || (chunk < least_chunk && chunk < next->tokens)) break;
    parts.push_back({next->sequence, chunk, false});
    left -= chunk;
  }
  firsts += std::min(left, first.tokens - firsts);
  parts[place].tokens = firsts;
}

}  // namespace quire
