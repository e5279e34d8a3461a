#include "actors/request.hpp"

#include <spdlog/spdlog.h>
#include <algorithm>
#include <utility>

#include "actors/prompt.hpp"

namespace quire {

namespace {

using self_pointer = request_pointer;

void tell(self_pointer self, generation_event event) {
  self->state.context->gate->tell(std::move(event));
}

// Gives everything back and goes. What the manager or batcher still hold they drop by themselves
// when this actor is gone.
void leave(self_pointer self, choice_outcome how) {
  auto& st = self->state;
  if (st.ended) return;
  st.ended = true;
  if (st.sequence) {
    self->send(st.services->batcher, stop_sequence{*st.sequence});
    self->send(st.services->manager, release_sequence{*st.sequence});
  } else if (st.ticket) {
    self->send(st.services->manager, decline_offer{*st.ticket});
  }
  self->send(st.services->gateway, choice_ended{st.context->id, st.choice, how});
  self->quit();
}

}  // namespace

void fail_request(self_pointer self, error why) {
  if (self->state.ended) return;
  spdlog::debug("request {} choice {} failed: {}", to_index(self->state.context->id),
                self->state.choice, why.message);
  tell(self, failed_event{std::move(why)});
  leave(self, choice_outcome::failed);
}

namespace {

void finish(self_pointer self, finish_reason reason) {
  auto& st = self->state;
  if (st.ended) return;
  if (st.text && reason != finish_reason::cancelled)
    if (auto rest = st.text->finish()) tell(self, std::move(*rest));
  if (st.text) st.usage.completion_tokens = st.text->num_tokens();
  st.usage.total_seconds = seconds_between(st.context->submitted, self->clock().now());
  spdlog::debug("request {} choice {} ended after {} tokens", to_index(st.context->id), st.choice,
                st.usage.completion_tokens);
  tell(self, finished_event{st.choice, reason, st.usage});
  leave(self,
        reason == finish_reason::cancelled ? choice_outcome::cancelled : choice_outcome::finished);
}

void make_text(self_pointer self) {
  auto& st = self->state;
  const auto& asked = st.context->asked;
  st.text.emplace(*st.services->vocabulary, st.choice, asked.stop,
                  asked.sampling.logprobs || asked.sampling.top_logprobs > 0, !asked.ignore_eos);
}

void run(self_pointer self, std::uint32_t prefill_end, bool generate) {
  auto& st = self->state;
  const auto& asked = st.context->asked;
  auto sampling = std::make_shared<sampling_params>(asked.sampling);
  sampling->seed += st.choice;
  batch_entry entry;
  entry.request = st.context->id;
  entry.choice = st.choice;
  entry.sequence = *st.sequence;
  entry.prompt = st.prompt;
  entry.first_position = st.stored_tokens;
  entry.prefill_end = prefill_end;
  entry.decodes = generate && !st.output.empty() && prefill_end == st.stored_tokens + 1;
  entry.generate = generate;
  entry.output = st.output;
  entry.max_new_tokens = st.max_new_tokens;
  entry.budget_tokens = st.budget_tokens;
  entry.stop_at_end = !asked.ignore_eos;
  if (st.choice == 0 && st.output.empty()) entry.score_from = asked.prompt_logprobs_from;
  entry.sampling = std::move(sampling);
  entry.priority = asked.priority;
  entry.user = asked.user;
  st.in_batch = true;
  self->send(st.services->batcher, ready{self, std::move(entry)});
  if (st.paused) self->send(st.services->batcher, hold_sequence{*st.sequence, true});
}

void generate(self_pointer self) {
  const auto& st = self->state;
  if (!st.text) make_text(self);
  run(self, static_cast<std::uint32_t>(st.prompt->size() + st.output.size()), true);
}

void hand_out(self_pointer self, const std::vector<sequence_id>& children) {
  auto& st = self->state;
  for (std::size_t i = 0; i < children.size(); ++i)
    self->send(st.followers[i], adopt_sequence{children[i], st.prompt, st.stored_tokens,
                                               st.max_new_tokens, st.usage});
  st.followers.clear();
  generate(self);
}

// The shared part of the prompt is stored: every choice gets its copy.
void split(self_pointer self) {
  auto& st = self->state;
  st.stored_tokens = static_cast<std::uint32_t>(st.prompt->size() - 1);
  self->request(st.services->manager, answer_timeout, fork_request{*st.sequence, st.followers})
      .then(
          [self](const forked& answer) {
            if (self->state.ended) return;
            if (!answer.sequences) return fail_request(self, answer.sequences.error());
            hand_out(self, *answer.sequences);
          },
          on_lost(self));
}

// The part of the prompt that is computed before anything is sampled is there.
void prefilled(self_pointer self) {
  if (self->state.context->asked.score_only)
    finish(self, finish_reason::length);
  else
    split(self);
}

void tell_admitted(self_pointer self) {
  tell(self, admitted_event{self->state.usage.prompt_tokens});
}

}  // namespace

void admit(self_pointer self) {
  auto& st = self->state;
  if (st.admitted) return;
  st.admitted = true;
  tell_admitted(self);
  for (const request_actor& other : std::exchange(st.separate, {}))
    self->send(other, adopt_prompt{st.prompt, st.max_new_tokens, st.terms});
}

std::optional<std::chrono::milliseconds> time_left(self_pointer self) {
  const auto& context = *self->state.context;
  if (!context.asked.deadline) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::milliseconds>(
      *context.asked.deadline - (self->clock().now() - context.submitted));
}

void fail_too_slow(self_pointer self, std::int64_t needed_ms, std::int64_t left_ms) {
  const std::int64_t deadline = self->state.context->asked.deadline->count();
  fail_request(self, {errc::deadline_exceeded,
                      "the deadline of " + std::to_string(deadline) +
                          " ms cannot be met: at the present speed about " +
                          std::to_string(needed_ms) + " ms more are needed and " +
                          std::to_string(std::max<std::int64_t>(left_ms, 0)) + " are left",
                      {}});
}

namespace {

// Asks the batcher how long the rest takes at the least, and goes on if the deadline allows it.
void check_deadline(self_pointer self, std::uint32_t stored_tokens) {
  auto& st = self->state;
  st.deadline_checked = true;
  const auto all = static_cast<std::uint32_t>(st.prompt->size());
  // An answer may be short: only those that run to their end are known to need all their tokens.
  const forecast_request question{all - std::min(stored_tokens, all), stored_tokens,
                                  st.context->asked.ignore_eos ? st.max_new_tokens : 1};
  self->request(st.services->batcher, answer_timeout, question)
      .then(
          [self, stored_tokens, sequence = st.sequence](const forecast& answer) {
            if (self->state.ended || self->state.sequence != sequence) return;
            const auto left = time_left(self);
            const auto needed = static_cast<std::int64_t>(answer.seconds.value_or(0) * 1000);
            if (left && needed > left->count()) return fail_too_slow(self, needed, left->count());
            start(self, stored_tokens);
          },
          on_lost(self));
}

}  // namespace

// The sequence holds its first `stored_tokens`, from the cache or from before it was parked.
void start(self_pointer self, std::uint32_t stored_tokens) {
  auto& st = self->state;
  if (st.context->asked.deadline && !st.deadline_checked)
    return check_deadline(self, stored_tokens);
  self->send(st.services->gateway, request_started{st.context->id});
  if (!st.started) st.usage.cached_tokens = stored_tokens;
  st.started = true;
  st.stored_tokens = stored_tokens;
  const auto all = static_cast<std::uint32_t>(st.prompt->size());
  if (st.granted_tokens < all && !st.context->asked.score_only) {
    // A budget for the beginning of the prompt alone.
    if (stored_tokens < st.granted_tokens)
      return run(self, static_cast<std::uint32_t>(st.granted_tokens), false);
    return grow(self);
  }
  if (!st.context->asked.score_only && st.followers.empty()) return generate(self);
  if (stored_tokens < all - 1) return run(self, all - 1, false);
  prefilled(self);
}

namespace {

void weigh(self_pointer self, budget_terms terms) {
  auto& st = self->state;
  self->request(st.services->gateway, answer_timeout,
                weigh_request{st.context->id, st.usage.prompt_tokens})
      .then(
          [self, terms](const weighed& answer) {
            if (self->state.ended) return;
            if (!answer.verdict) return fail_request(self, answer.verdict.error());
            negotiate(self, terms);
          },
          on_lost(self));
}

// The first choice's beginning: from text to a budget.
void begin(self_pointer self) {
  auto& st = self->state;
  const auto& services = *st.services;
  auto tokens = build_prompt(st.context->asked, *services.vocabulary, services.chat.get());
  if (!tokens) return fail_request(self, tokens.error());
  st.prompt = std::make_shared<const std::vector<token_id>>(std::move(*tokens));
  st.usage.prompt_tokens = static_cast<std::uint32_t>(st.prompt->size());
  auto plan = plan_request(st.context->id, st.context->asked, st.prompt, services.bounds);
  if (!plan) return fail_request(self, plan.error());
  st.max_new_tokens = plan->max_new_tokens;
  plan->terms.arrived = st.context->submitted;
  st.terms = plan->terms;
  if (plan->separate) st.separate = std::exchange(st.followers, {});
  weigh(self, std::move(plan->terms));
}

void tell_scores(self_pointer self, const std::vector<step_output::scored>& scores) {
  auto& st = self->state;
  prompt_logprobs_event event;
  event.first_position = std::max(*st.context->asked.prompt_logprobs_from, 1u);
  for (std::size_t i = 0; i < scores.size(); ++i)
    event.entries.push_back({(*st.prompt)[event.first_position + i], scores[i].best,
                             scores[i].logprob, scores[i].best_logprob});
  tell(self, std::move(event));
}

void hear(self_pointer self, batch_news& news) {
  auto& st = self->state;
  if (st.ended || news.sequence != st.sequence) return;
  if (news.parked) return hear_parked(self);
  if (news.ended) st.in_batch = false;
  if (st.usage.queued_seconds == 0)
    st.usage.queued_seconds = seconds_between(st.context->submitted, news.first_step);
  if (!news.scores.empty()) tell_scores(self, news.scores);
  if (!news.token) {
    if (!news.prefilled) return;
    st.scores_told = true;
    // It was asked to yield meanwhile and is out of the batch: nobody else will say that it has
    // parked.
    if (st.yielding && !st.context->asked.score_only) return hear_parked(self);
    if (st.granted_tokens < st.prompt->size() && !st.context->asked.score_only) {
      st.stored_tokens = static_cast<std::uint32_t>(st.granted_tokens);
      return grow(self);
    }
    prefilled(self);
    return;
  }
  st.scores_told = true;
  if (st.text->num_tokens() == 0)
    st.usage.first_token_seconds = seconds_between(st.context->submitted, self->clock().now());
  st.output.push_back(news.token->token);
  if (auto told = st.text->push(std::move(*news.token))) tell(self, std::move(*told));
  if (st.text->stopped())
    finish(self, finish_reason::stop);
  else if (news.ended)
    finish(self, *news.ended);
  else
    keep_going(self);
}

void adopt(self_pointer self, adopt_sequence& given) {
  auto& st = self->state;
  if (st.ended) return;
  st.sequence = given.sequence;
  st.prompt = std::move(given.prompt);
  st.stored_tokens = given.stored_tokens;
  st.max_new_tokens = st.budget_tokens = given.max_new_tokens;
  st.granted_tokens = st.prompt->size() + st.max_new_tokens - 1;
  st.usage = given.usage;
  generate(self);
}

void adopt(self_pointer self, adopt_prompt& given) {
  auto& st = self->state;
  if (st.ended) return;
  st.prompt = std::move(given.prompt);
  st.usage.prompt_tokens = static_cast<std::uint32_t>(st.prompt->size());
  st.max_new_tokens = given.max_new_tokens;
  st.terms = std::move(given.terms);
  st.admitted = true;  // the first choice has said so for all
  negotiate(self, st.terms);
}

void stop(self_pointer self, const stop_request& stopped) {
  if (stopped.why.code == errc::cancelled)
    finish(self, finish_reason::cancelled);
  else
    fail_request(self, stopped.why);
}

void set_deadline(self_pointer self) {
  const auto& context = *self->state.context;
  if (!context.asked.deadline) return;
  const auto passed = self->clock().now() - context.submitted;
  const auto left = std::max<caf::timespan>(*context.asked.deadline - passed, caf::timespan{0});
  self->delayed_send(
      self, left,
      stop_request{{errc::deadline_exceeded,
                    "the request's deadline of " + std::to_string(context.asked.deadline->count()) +
                        " ms has passed",
                    {}}});
}

}  // namespace

request_actor::behavior_type request(request_actor::stateful_pointer<request_state> self,
                                     std::shared_ptr<const request_services> services,
                                     std::shared_ptr<const request_context> context,
                                     std::uint32_t choice, std::vector<request_actor> followers) {
  auto& st = self->state;
  st.services = std::move(services);
  st.context = std::move(context);
  st.choice = choice;
  st.followers = std::move(followers);
  set_deadline(self);
  if (choice == 0) begin(self);
  return {
      [self](const offer& made) { hear_offer(self, made); },
      [self](const yield_ask& ask) { hear_ask(self, ask); },
      [self](const taken_back& lost) { hear_taken_back(self, lost); },
      [self](const pause_choice& asked) { pause(self, asked.paused); },
      [self](adopt_sequence& given) { adopt(self, given); },
      [self](adopt_prompt& given) { adopt(self, given); },
      [self](batch_news& news) { hear(self, news); },
      [self](sequence_failed& failed) {
        if (failed.sequence == self->state.sequence) fail_request(self, std::move(failed.why));
      },
      [self](const stop_request& stopped) { stop(self, stopped); },
  };
}

}  // namespace quire
