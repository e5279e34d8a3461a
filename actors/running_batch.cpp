#include "actors/running_batch.hpp"

#include <algorithm>

#include "core/check.hpp"
#include "models/tokenizer.hpp"

namespace quire {

running_batch::running_batch(std::shared_ptr<const tokenizer> vocabulary,
                             std::chrono::milliseconds aging)
    : vocabulary_(std::move(vocabulary)), planner_(aging) {}

void running_batch::add(batch_entry entry, moment now) {
  QUIRE_CHECK(entry.prefill_end > entry.first_position, "a sequence came with nothing to run");
  QUIRE_CHECK(!entry.decodes || entry.prefill_end == entry.first_position + 1,
              "a parked sequence came back with another length");
  running added;
  added.position = entry.first_position;
  added.added = now;
  const sampling_params& how = *entry.sampling;
  added.penalized = how.repetition_penalty != 1.0f || how.presence_penalty != 0.0f ||
                    how.frequency_penalty != 0.0f;
  added.output = std::move(entry.output);
  const sequence_id sequence = entry.sequence;
  added.entry = std::move(entry);
  let_go_on(entries_.insert_or_assign(sequence, std::move(added)).first->second);
}

// Takes a sequence into the plans, as what it is at the moment.
void running_batch::let_go_on(const running& of) {
  const batch_entry& entry = of.entry;
  if (of.position >= entry.prefill_end || entry.decodes)
    planner_.resume(entry.sequence);
  else
    planner_.add(entry.sequence, entry.prefill_end - of.position, entry.priority, of.added,
                 entry.user);
}

void running_batch::hold(sequence_id sequence, bool held) {
  const auto found = entries_.find(sequence);
  if (found == entries_.end() || found->second.held == held) return;
  running& of = found->second;
  of.held = held;
  if (of.paused) return;
  if (held)
    planner_.pause(sequence);
  else
    let_go_on(of);
}

void running_batch::remove(sequence_id sequence) {
  if (entries_.erase(sequence) > 0) planner_.remove(sequence);
}

void running_batch::allow(sequence_id sequence, std::uint32_t budget_tokens) {
  const auto found = entries_.find(sequence);
  if (found == entries_.end()) return;
  running& of = found->second;
  of.entry.budget_tokens = budget_tokens;
  if (!of.paused || of.output.size() >= budget_tokens) return;
  of.paused = false;
  if (!of.held) planner_.resume(sequence);
}

std::vector<lease_item> running_batch::plan(const step_limits& limits, moment now) {
  planned_.clear();
  std::vector<lease_item> items;
  for (const auto& part : planner_.plan(limits)) {
    running& of = entries_.at(part.sequence);
    if (!of.first_step) of.first_step = now;
    planned_.push_back({part.sequence, part.tokens, part.decode});
    lease_item item{part.sequence, part.tokens, {}};
    if (part.decode) item.generated.push_back(of.output.back());
    items.push_back(std::move(item));
  }
  return items;
}

step_plan running_batch::assemble(step_pages pages) {
  step_plan plan;
  plan.step = pages.step;
  plan.exchange = std::move(pages.exchange);
  plan.copies = std::move(pages.copies);
  plan.trim_from_page = pages.trim_from_page;
  plan.sequences.reserve(pages.grants.size());
  work_ = {};
  QUIRE_CHECK(pages.grants.size() == planned_.size(), "a lease answered another plan");
  not_run_.clear();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < planned_.size(); ++i) {
    auto& grant = pages.grants[i];
    const in_flight part = planned_[i];
    const auto found = entries_.find(part.sequence);
    if (grant.what == lease_grant::outcome::gone) remove(part.sequence);
    if (grant.what != lease_grant::outcome::granted) continue;
    if (found == entries_.end()) {
      not_run_.push_back(part.sequence);
      continue;
    }
    plan.sequences.push_back(make_sequence(found->second, part, std::move(grant)));
    note_work(found->second.position, part);
    planned_[kept++] = part;
  }
  planned_.resize(kept);
  return plan;
}

void running_batch::note_work(std::uint32_t position, const in_flight& part) {
  if (part.decode) {
    work_.decodes += part.tokens;
    return;
  }
  work_.prefill_tokens += part.tokens;
  work_.prefill_pairs += part.tokens * (position + part.tokens / 2.0);
}

std::optional<double> running_batch::next_departure() const {
  std::optional<std::uint32_t> least;
  for (const auto& [sequence, of] : entries_) {
    if (of.held || of.position < of.entry.prefill_end || !of.entry.generate) continue;
    const auto left = of.entry.max_new_tokens - static_cast<std::uint32_t>(of.output.size());
    least = std::min(left, least.value_or(left));
  }
  return least ? departures_.expect(*least) : std::nullopt;
}

std::uint32_t running_batch::prefill_context() const {
  const auto first = planner_.first_in_line();
  const auto found = first ? entries_.find(*first) : entries_.end();
  return found == entries_.end() ? 0 : found->second.position;
}

step_sequence running_batch::make_sequence(running& from, const in_flight& part,
                                           lease_grant grant) const {
  const batch_entry& entry = from.entry;
  QUIRE_CHECK(grant.first_position == from.position, "the batch and the cache disagree");
  step_sequence s;
  s.sequence = part.sequence;
  s.table = std::move(grant.table);
  s.first_position = from.position;
  s.sample_index = from.output.size();
  s.sampling = entry.sampling;
  if (from.penalized) {
    s.prompt = entry.prompt;
    s.output = from.output;
  }
  if (part.decode) {
    s.tokens = {from.output.back()};
    s.sample = true;
    return s;
  }
  const auto& prompt = *entry.prompt;
  const std::uint32_t end = from.position + part.tokens;
  for (std::uint32_t at = from.position; at < end; ++at)
    s.tokens.push_back(at < prompt.size() ? prompt[at] : from.output[at - prompt.size()]);
  s.sample = entry.generate && end == entry.prefill_end;
  if (entry.score_from) {
    // The token at position p + 1 is scored by what follows the token at position p.
    const std::uint32_t first = std::max(from.position + 1, std::max(*entry.score_from, 1u));
    const std::uint32_t last =
        std::min<std::uint32_t>(end + 1, static_cast<std::uint32_t>(prompt.size()));
    if (first < last) {
      s.first_scored = first - 1 - from.position;
      s.score.assign(prompt.begin() + first, prompt.begin() + last);
    }
  }
  return s;
}

std::vector<batch_news> running_batch::apply(step_result result) {
  QUIRE_CHECK(result.outputs.size() == planned_.size(), "a step answered for other sequences");
  if (!planned_.empty()) ++counts_.steps;
  counts_.trimmed_bytes += result.trimmed_bytes;
  std::vector<batch_news> news;
  news.reserve(planned_.size());
  for (std::size_t i = 0; i < planned_.size(); ++i) {
    const in_flight& part = planned_[i];
    if (!part.decode) counts_.prefilled_tokens += part.tokens;
    const auto found = entries_.find(part.sequence);
    if (found == entries_.end()) {
      counts_.surplus_tokens += result.outputs[i].sampled ? 1 : 0;
      continue;
    }
    batch_news told = advance(found->second, part, std::move(result.outputs[i]));
    if (told.ended) {
      const running& gone = found->second;
      if (gone.entry.generate)
        departures_.ended(static_cast<std::uint32_t>(gone.output.size()),
                          gone.entry.max_new_tokens);
      remove(part.sequence);
    }
    if (told.prefilled || told.token || told.ended) news.push_back(std::move(told));
  }
  planned_.clear();
  return news;
}

batch_news running_batch::advance(running& of, const in_flight& part, step_output output) {
  batch_news news;
  news.sequence = part.sequence;
  news.first_step = of.first_step.value_or(moment{});
  of.position += part.tokens;
  if (!part.decode) {
    of.scores.insert(of.scores.end(), output.scores.begin(), output.scores.end());
    planner_.advance(part.sequence, part.tokens);
    news.prefilled = of.position >= of.entry.prefill_end;
    if (!news.prefilled) return news;
    news.scores = std::move(of.scores);
    if (!of.entry.generate) {
      news.ended = finish_reason::length;
      return news;
    }
  }
  QUIRE_CHECK(output.sampled, "a step did not sample where it was told to");
  sampled(of, std::move(output.token), news);
  return news;
}

void running_batch::sampled(running& of, sampled_token token, batch_news& news) {
  ++counts_.generated_tokens;
  of.output.push_back(token.token);
  if (of.entry.stop_at_end && vocabulary_->is_end(token.token))
    news.ended = finish_reason::stop;
  else if (of.output.size() >= of.entry.max_new_tokens)
    news.ended = finish_reason::length;
  else if (of.output.size() >= of.entry.budget_tokens) {
    of.paused = true;
    planner_.pause(of.entry.sequence);
  }
  news.token = std::move(token);
}

std::vector<sequence_id> running_batch::fail() {
  std::vector<sequence_id> failed;
  if (!planned_.empty()) ++counts_.failed_steps;
  for (const in_flight& part : planned_) {
    if (entries_.contains(part.sequence)) failed.push_back(part.sequence);
    remove(part.sequence);
  }
  planned_.clear();
  return failed;
}

}  // namespace quire
