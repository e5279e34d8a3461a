#include "actors/batch_planner.hpp"

#include <algorithm>
#include <cmath>

namespace quire {

namespace {
/// Weight of the newest step in what is remembered: about ten steps.
constexpr double newest_weight = 0.2;
/// The same for prompts: a deep prompt's steps should still know the shallow ones.
constexpr double prompt_weight = 0.05;

void learn(double& known, double seen) {
  known = known == 0 ? seen : known + newest_weight * (seen - known);
}
}  // namespace

void step_speed::observe(const work& done, double seconds) {
  if (done.prefill_tokens == 0) {
    if (done.decodes > 0) learn(decode_step_seconds_, seconds);
    return;
  }
  // Short chunks say more about the decodes beside them than about prompts.
  if (done.prefill_tokens < batch_planner::least_chunk / 2) return;
  const double beside = done.decodes > 0 ? decode_step_seconds_ : 0.0;
  const double took = std::max(seconds - beside, seconds * 0.1);
  const double tokens = done.prefill_tokens;
  const double pairs = done.prefill_pairs;
  const auto note = [](double& sum, double seen) { sum = (1 - prompt_weight) * sum + seen; };
  note(sums_.tokens_tokens, tokens * tokens);
  note(sums_.tokens_pairs, tokens * pairs);
  note(sums_.pairs_pairs, pairs * pairs);
  note(sums_.tokens_seconds, tokens * took);
  note(sums_.pairs_seconds, pairs * took);
  const double determinant =
      sums_.tokens_tokens * sums_.pairs_pairs - sums_.tokens_pairs * sums_.tokens_pairs;
  // Chunks at one depth only cannot tell the two apart: what is known of pairs is kept.
  if (determinant > 1e-3 * sums_.tokens_tokens * sums_.pairs_pairs)
    pair_seconds_ = std::max(0.0, (sums_.tokens_tokens * sums_.pairs_seconds -
                                   sums_.tokens_pairs * sums_.tokens_seconds) /
                                      determinant);
  const double least = 0.1 * sums_.tokens_seconds / sums_.tokens_tokens;
  token_seconds_ =
      (sums_.tokens_seconds - pair_seconds_ * sums_.tokens_pairs) / sums_.tokens_tokens;
  if (token_seconds_ >= least) return;
  token_seconds_ = least;
  if (sums_.pairs_pairs > 0)
    pair_seconds_ = (sums_.pairs_seconds - least * sums_.tokens_pairs) / sums_.pairs_pairs;
}

std::optional<double> step_speed::expect(const work& planned) const {
  const bool prefill = planned.prefill_tokens > 0;
  const bool decode = planned.decodes > 0;
  if ((prefill && token_seconds_ == 0) || (decode && decode_step_seconds_ == 0))
    return std::nullopt;
  return (decode ? decode_step_seconds_ : 0) + planned.prefill_tokens * token_seconds_ +
         planned.prefill_pairs * pair_seconds_;
}

std::optional<std::uint32_t> step_speed::prefill_tokens_within(double seconds,
                                                               double context) const {
  if (token_seconds_ == 0) return std::nullopt;
  const double left = std::max(seconds - decode_step_seconds_, 0.0);
  // tokens x token_seconds + tokens x (context + tokens / 2) x pair_seconds = left
  const double each = token_seconds_ + context * pair_seconds_;
  const double tokens = 2 * left / (each + std::sqrt(each * each + 2 * pair_seconds_ * left));
  return static_cast<std::uint32_t>(std::min(tokens, 1e9));
}

std::optional<double> step_speed::forecast(std::uint32_t tokens, std::uint32_t context,
                                           std::uint32_t new_tokens) const {
  if (token_seconds_ == 0 || decode_step_seconds_ == 0) return std::nullopt;
  const double pairs = tokens * (context + tokens / 2.0);
  return tokens * token_seconds_ + pairs * pair_seconds_ + new_tokens * decode_step_seconds_;
}

void step_aim::observe(double seconds, double expected, double allowed) {
  // No step counts as later than the whole allowance: a pause of the machine is forgotten as soon
  // as that.
  late_ = std::max(std::min((seconds - expected) / allowed, 1.0), 0.98 * late_);
}

double step_aim::aim(double allowed) const {
  // The latest that comes will be a little later than the latest that was.
  return allowed * std::clamp(1 - 1.15 * late_, 0.3, 0.7);
}

void batch_planner::add(sequence_id sequence, std::uint32_t tokens, int priority, moment now,
                        const std::string& user) {
  const int step = std::clamp(priority, -1000, 1000);
  // A user that was away starts where the others are.
  double least = 0;
  if (!given_.empty())
    least = std::min_element(given_.begin(), given_.end(), [](const auto& a, const auto& b) {
              return a.second < b.second;
            })->second;
  given_.try_emplace(user, least);
  // As if a token took a millisecond.
  const unfinished added{sequence, tokens, now - aging_ * step, user,
                         static_cast<double>(aging_.count()) * step};
  const auto at = std::upper_bound(
      filling_.begin(), filling_.end(), added,
      [](const unfinished& a, const unfinished& b) { return a.counts_from < b.counts_from; });
  filling_.insert(at, added);
}

std::size_t batch_planner::first() const {
  const auto before = [this](const unfinished& a, const unfinished& b) {
    return given_.at(a.user) - a.head_start < given_.at(b.user) - b.head_start;
  };
  return static_cast<std::size_t>(std::min_element(filling_.begin(), filling_.end(), before) -
                                  filling_.begin());
}

std::optional<sequence_id> batch_planner::first_in_line() const {
  if (filling_.empty()) return std::nullopt;
  return filling_[first()].sequence;
}

void batch_planner::forget_idle(const std::string& user) {
  const bool busy = std::any_of(filling_.begin(), filling_.end(),
                                [&](const unfinished& f) { return f.user == user; });
  if (!busy) given_.erase(user);
}

bool batch_planner::advance(sequence_id sequence, std::uint32_t tokens) {
  const auto at = std::find_if(filling_.begin(), filling_.end(),
                               [&](const unfinished& f) { return f.sequence == sequence; });
  if (at == filling_.end()) return false;
  at->tokens -= std::min(at->tokens, tokens);
  given_.at(at->user) += tokens;
  if (at->tokens > 0) return false;
  const std::string user = std::move(at->user);
  filling_.erase(at);
  forget_idle(user);
  decoding_.push_back(sequence);
  return true;
}

void batch_planner::remove(sequence_id sequence) {
  const auto unfilled = std::find_if(filling_.begin(), filling_.end(),
                                     [&](const unfinished& f) { return f.sequence == sequence; });
  if (unfilled != filling_.end()) {
    const std::string user = std::move(unfilled->user);
    filling_.erase(unfilled);
    forget_idle(user);
  }
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
  const std::size_t places = std::max<std::size_t>(
      limits.max_streams - std::min<std::size_t>(kept, limits.max_streams), 1);
  const std::size_t decodes = std::min(decoding_.size(), places);
  parts.reserve(decodes + filling_.size());
  if (decodes == decoding_.size()) next_turn_ = 0;
  for (std::size_t i = 0; i < decodes; ++i)
    parts.push_back({decoding_[(next_turn_ + i) % decoding_.size()], 1, true});
  if (decodes < decoding_.size()) next_turn_ = (next_turn_ + decodes) % decoding_.size();
  std::uint32_t budget = limits.step_tokens;
  if (decodes != 0) {
    budget = std::min(budget, limits.step_tokens_beside_decodes);
    const auto over = static_cast<std::uint32_t>((decodes + budget) % whole_rows);
    if (budget >= least_chunk + over) budget -= over;
  }
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
  const std::size_t front = first();
  for (std::size_t i = 0; i < filling_.size(); ++i)
    if (i != front) rest.push_back(&filling_[i]);
  std::stable_sort(rest.begin(), rest.end(),
                   [](const unfinished* a, const unfinished* b) { return a->tokens < b->tokens; });
  const unfinished& next_up = filling_[front];
  std::uint32_t left = tokens;
  std::uint32_t firsts =
      std::min(next_up.tokens, std::max(tokens / 2, std::min(tokens, least_chunk)));
  left -= firsts;
  const std::size_t place = parts.size();
  parts.push_back({next_up.sequence, 0, false});
  for (const unfinished* next : rest) {
    if (parts.size() - place >= most || left == 0) break;
    // The first in line goes on before a prompt that is longer than what it has left itself.
    if (next->tokens > next_up.tokens - firsts) {
      const std::uint32_t more = std::min(left, next_up.tokens - firsts);
      firsts += more;
      left -= more;
    }
    const std::uint32_t chunk = std::min(left, next->tokens);
    if (chunk == 0 || (chunk < least_chunk && chunk < next->tokens)) break;
    parts.push_back({next->sequence, chunk, false});
    left -= chunk;
  }
  firsts += std::min(left, next_up.tokens - firsts);
  parts[place].tokens = firsts;
}

}  // namespace quire
