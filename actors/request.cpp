#include "actors/request.hpp"

#include <algorithm>
#include <spdlog/spdlog.h>

#include "actors/prompt.hpp"

namespace quire {

namespace {

using self_pointer = request_actor::stateful_pointer<request_state>;

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

void fail_request(self_pointer self, error why) {
  if (self->state.ended) return;
  spdlog::debug("request {} choice {} failed: {}", to_index(self->state.context->id),
                self->state.choice, why.message);
  tell(self, failed_event{std::move(why)});
  leave(self, choice_outcome::failed);
}

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
  leave(self, reason == finish_reason::cancelled ? choice_outcome::cancelled
                                                 : choice_outcome::finished);
}

// CAF's own errors (a timeout, a dead actor) are defects of ours, not of the request.
auto on_lost(self_pointer self) {
  return [self](const caf::error& lost) {
    fail_request(self, {errc::internal, "an actor did not answer: " + self->system().render(lost), {}});
  };
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
  entry.generate = generate;
  entry.output = st.output;
  entry.max_new_tokens = st.max_new_tokens;
  entry.budget_tokens = st.budget_tokens;
  entry.stop_at_end = !asked.ignore_eos;
  if (st.choice == 0 && st.output.empty()) entry.score_from = asked.prompt_logprobs_from;
  entry.sampling = std::move(sampling);
  entry.priority = asked.priority;
  self->send(st.services->batcher, ready{self, std::move(entry)});
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

void start(self_pointer self, std::uint32_t cached_tokens) {
  auto& st = self->state;
  self->send(st.services->gateway, request_started{st.context->id});
  if (st.output.empty()) st.usage.cached_tokens = cached_tokens;
  st.stored_tokens = cached_tokens;
  const auto& asked = st.context->asked;
  if (!asked.score_only && st.followers.empty()) return generate(self);
  const auto end = static_cast<std::uint32_t>(st.prompt->size() - 1);
  if (cached_tokens < end) return run(self, end, false);
  prefilled(self);
}

void take(self_pointer self, const offer& made) {
  auto& st = self->state;
  st.ticket = made.ticket;
  st.sequence = made.sequence;
  self->request(st.services->manager, answer_timeout, accept_offer{made.ticket})
      .then(
          [self, made](bool stands) {
            if (self->state.ended) return;
            if (stands) return start(self, made.cached_tokens);
            fail_request(self, {errc::deadline_exceeded,
                                "an offer of pages expired before it could be accepted", {}});
          },
          on_lost(self));
}

void admit(self_pointer self) {
  auto& st = self->state;
  if (st.admitted) return;
  st.admitted = true;
  tell(self, admitted_event{st.usage.prompt_tokens});
}

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
            // Waiting is acceptable: the deadline, if there is one, ends it.
            self->state.ticket = std::get<counter_offer>(answer).ticket;
          },
          on_lost(self));
}

// No pages for what is still to come, and the budget is used up. Holding on to it could make others
// wait for ever; so all of it goes back, and the request stands in line where it stood before.
void yield(self_pointer self) {
  auto& st = self->state;
  spdlog::debug("request {} gives its pages up after {} tokens", to_index(st.context->id),
                st.output.size());
  self->send(st.services->batcher, stop_sequence{*st.sequence});
  self->send(st.services->manager, release_sequence{*st.sequence});
  st.sequence.reset();
  auto tokens = std::make_shared<std::vector<token_id>>(*st.prompt);
  tokens->insert(tokens->end(), st.output.begin(), st.output.end());
  st.budget_tokens = std::min(st.max_new_tokens,
                              static_cast<std::uint32_t>(st.output.size()) +
                                  st.services->bounds.budget_step_tokens);
  negotiate(self, resume_terms(st.terms, std::move(tokens), st.prompt->size(), st.budget_tokens));
}

void extend(self_pointer self) {
  auto& st = self->state;
  const std::uint32_t wanted =
      std::min(st.max_new_tokens, st.budget_tokens + st.services->bounds.budget_step_tokens);
  st.extending = true;
  self->request(st.services->manager, answer_timeout,
                extend_request{*st.sequence, st.prompt->size() + wanted - 1})
      .then(
          [self, wanted](bool granted) {
            auto& now = self->state;
            now.extending = false;
            if (now.ended) return;
            if (granted) {
              now.budget_tokens = wanted;
              self->send(now.services->batcher, allow_sequence{*now.sequence, wanted});
            } else if (now.output.size() >= now.budget_tokens) {
              yield(self);
            }
          },
          on_lost(self));
}

// Asks for more in time, so that the sequence need not pause, and again when it does.
void keep_going(self_pointer self) {
  auto& st = self->state;
  if (st.budget_tokens >= st.max_new_tokens || st.extending) return;
  const std::uint32_t early =
      st.budget_tokens - std::min(st.budget_tokens / 2, 2 * st.services->bounds.page_tokens);
  if (st.output.size() == early || st.output.size() >= st.budget_tokens) extend(self);
}

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
  st.budget_tokens = plan->budget_tokens;
  plan->terms.arrived = st.context->submitted;
  if (st.budget_tokens < st.max_new_tokens) st.terms = plan->terms;
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
  if (st.usage.queued_seconds == 0)
    st.usage.queued_seconds = seconds_between(st.context->submitted, news.first_step);
  if (!news.scores.empty()) tell_scores(self, news.scores);
  if (!news.token) {
    if (news.prefilled) prefilled(self);
    return;
  }
  if (st.text->num_tokens() == 0)
    st.usage.first_token_seconds = seconds_between(st.context->submitted, self->clock().now());
  if (st.budget_tokens < st.max_new_tokens || !st.output.empty())
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
  st.usage = given.usage;
  generate(self);
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
  self->delayed_send(self, left,
                     stop_request{{errc::deadline_exceeded,
                                   "the request's deadline of " +
                                       std::to_string(context.asked.deadline->count()) +
                                       " ms has passed", {}}});
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
      [self](const offer& made) { take(self, made); },
      [self](adopt_sequence& given) { adopt(self, given); },
      [self](batch_news& news) { hear(self, news); },
      [self](sequence_failed& failed) {
        if (failed.sequence == self->state.sequence) fail_request(self, std::move(failed.why));
      },
      [self](const stop_request& stopped) { stop(self, stopped); },
  };
}

}  // namespace quire
