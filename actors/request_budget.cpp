// The half of a request's actor that deals with the cache manager: budgets, growth, giving way.
#include <spdlog/spdlog.h>
#include <algorithm>
#include <utility>

#include "actors/request.hpp"

namespace quire {

namespace {

using self_pointer = request_pointer;

/// Who has fewer tokens than this to go does not give way: it will be done before its pages would
/// have been copied and others had used them.
constexpr std::uint32_t nearly_done_tokens = 16;

std::uint64_t all_tokens(const request_state& st) {
  return st.prompt->size() + std::max(st.max_new_tokens, 1u) - 1;
}

// What the sequence should be able to store next: a step more than what it has output.
std::uint64_t next_budget(const request_state& st, std::uint64_t new_tokens) {
  return std::min(all_tokens(st),
                  st.prompt->size() + new_tokens + st.services->bounds.budget_step_tokens - 1);
}

void set_budget(request_state& st, std::uint64_t sequence_tokens) {
  st.granted_tokens = std::min(sequence_tokens, all_tokens(st));
  const std::uint64_t prompt = st.prompt->size();
  // The last token is never stored: it ends the sequence or the budget.
  st.budget_tokens = st.granted_tokens < prompt
                         ? 0
                         : static_cast<std::uint32_t>(std::min<std::uint64_t>(
                               st.granted_tokens - prompt + 1, st.max_new_tokens));
}

void take(self_pointer self, const offer& made) {
  auto& st = self->state;
  st.ticket = made.ticket;
  st.sequence = made.sequence;
  set_budget(st, made.sequence_tokens);
  if (st.paused) self->send(st.services->manager, hold_request{made.ticket, true});
  self->request(st.services->manager, answer_timeout, accept_offer{made.ticket})
      .then(
          [self, made](bool stands) {
            if (self->state.ended || self->state.sequence != made.sequence) return;
            if (stands) return start(self, made.cached_tokens);
            fail_request(self, {errc::deadline_exceeded,
                                "an offer of pages expired before it could be accepted",
                                {}});
          },
          on_lost(self));
}

// All is gone but the tokens: asks for a new budget, with the old place in line. Most of what was
// computed is still in the prefix index.
void recompute(self_pointer self) {
  auto& st = self->state;
  spdlog::debug("request {} choice {} computes again after {} tokens", to_index(st.context->id),
                st.choice, st.output.size());
  if (st.sequence && st.in_batch) self->send(st.services->batcher, stop_sequence{*st.sequence});
  st.sequence.reset();
  st.ticket.reset();
  st.early_offer.reset();
  st.in_batch = st.yielding = st.extending = false;
  auto tokens = std::make_shared<std::vector<token_id>>(*st.prompt);
  tokens->insert(tokens->end(), st.output.begin(), st.output.end());
  negotiate(self, resume_terms(st.terms, std::move(tokens), next_budget(st, st.output.size())));
}

void answer(self_pointer self, yield_choice how, std::string reason = {}) {
  const auto& st = self->state;
  self->send(st.services->manager,
             yield_answer{*st.sequence, how, st.resume_tokens, std::move(reason)});
}

// Says that the pages may be parked. The sequence's news go on until they have left.
void give_way(self_pointer self) {
  auto& st = self->state;
  st.yielding = true;
  st.resume_tokens = next_budget(st, st.output.size());
  answer(self, yield_choice::park);
  if (!st.in_batch) hear_parked(self);
}

// Why it would not give its pages up; empty if it would.
std::string reason_to_keep(const request_state& st) {
  if (!st.paused && !st.output.empty() &&
      st.max_new_tokens - st.output.size() <= nearly_done_tokens &&
      st.budget_tokens == st.max_new_tokens)
    return std::to_string(st.max_new_tokens - st.output.size()) + " tokens to go";
  if (st.context->asked.prompt_logprobs_from && !st.scores_told)
    return "its prompt is being scored";
  return {};
}

}  // namespace

void negotiate(self_pointer self, budget_terms terms) {
  self->request(self->state.services->manager, answer_timeout,
                budget_request{self, std::move(terms)})
      .then(
          [self](const budget_answer& answer) {
            if (self->state.ended) return;
            if (const auto* never = std::get_if<refusal>(&answer))
              return fail_request(
                  self, too_long(never->needed_tokens, never->available_tokens, "pool of pages"));
            admit(self);
            if (const auto* made = std::get_if<offer>(&answer)) return take(self, *made);
            // Waiting is acceptable unless it takes longer than the deadline allows.
            const auto& later = std::get<counter_offer>(answer);
            self->state.ticket = later.ticket;
            if (self->state.paused)
              self->send(self->state.services->manager, hold_request{later.ticket, true});
            const auto left = time_left(self);
            // The estimate is rough: only what is far from possible is given up for it.
            if (left && later.estimate && *later.estimate > 2 * *left)
              fail_too_slow(self, later.estimate->count(), left->count());
          },
          on_lost(self));
}

void hear_offer(self_pointer self, const offer& made) {
  auto& st = self->state;
  if (st.ended || st.ticket != made.ticket) return;
  if (st.yielding)
    st.early_offer = made;
  else
    take(self, made);
}

void hear_ask(self_pointer self, const yield_ask& ask) {
  auto& st = self->state;
  if (st.ended || st.yielding || st.sequence != ask.sequence) return;
  std::string reason = reason_to_keep(st);
  if (!reason.empty()) return answer(self, yield_choice::refuse, std::move(reason));
  give_way(self);
}

void hear_parked(self_pointer self) {
  auto& st = self->state;
  if (st.ended || !st.yielding) return;
  st.yielding = st.in_batch = st.extending = false;
  st.sequence.reset();
  if (const auto made = std::exchange(st.early_offer, std::nullopt)) take(self, *made);
}

void hear_taken_back(self_pointer self, const taken_back& lost) {
  const auto& st = self->state;
  if (!st.ended && st.ticket == lost.ticket) recompute(self);
}

void grow(self_pointer self) {
  auto& st = self->state;
  if (st.extending || st.yielding) return;
  const std::uint64_t wanted =
      next_budget(st, std::max<std::uint64_t>(st.budget_tokens, st.output.size()));
  st.extending = true;
  self->request(st.services->manager, answer_timeout, extend_request{*st.sequence, wanted})
      .then(
          [self, wanted, sequence = *st.sequence](bool granted) {
            auto& now = self->state;
            if (now.ended || now.sequence != sequence) return;
            now.extending = false;
            if (now.yielding) return;
            if (granted) {
              set_budget(now, wanted);
              if (now.in_batch)
                self->send(now.services->batcher, allow_sequence{sequence, now.budget_tokens});
              else
                start(self, now.stored_tokens);
            } else if (!now.in_batch || now.output.size() >= now.budget_tokens) {
              // Holding on could make others wait for ever.
              give_way(self);
            }
          },
          on_lost(self));
}

void keep_going(self_pointer self) {
  const auto& st = self->state;
  if (st.budget_tokens >= st.max_new_tokens) return;
  const std::uint32_t early =
      st.budget_tokens - std::min(st.budget_tokens / 2, 2 * st.services->bounds.page_tokens);
  if (st.output.size() == early || st.output.size() >= st.budget_tokens) grow(self);
}

void pause(self_pointer self, bool paused) {
  auto& st = self->state;
  if (st.ended || st.paused == paused) return;
  st.paused = paused;
  if (st.in_batch) self->send(st.services->batcher, hold_sequence{*st.sequence, paused});
  if (st.ticket) self->send(st.services->manager, hold_request{*st.ticket, paused});
}

}  // namespace quire
