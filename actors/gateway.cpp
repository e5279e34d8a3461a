#include "actors/gateway.hpp"

#include <spdlog/spdlog.h>
#include <algorithm>

#include "core/check.hpp"

namespace quire {

namespace {

using self_pointer = gateway_actor::stateful_pointer<gateway_state>;

void refuse(gateway_state& st, request_id refused, generation_listener& listener, error why) {
  spdlog::debug("request {} refused: {}", to_index(refused), why.message);
  ++st.counts.refused;
  listener.on_event(failed_event{std::move(why)});
}

/// The batcher answers between two messages; when it does not, the guess is a little worse.
constexpr std::chrono::milliseconds forecast_patience{5};

/// Completes an error, if it is queue_full, and hands it on.
template <class Use>
void tell_when_to_come_back(self_pointer self, error why, Use use) {
  if (why.code != errc::queue_full) return use(std::move(why));
  auto finish = [self, why, use](std::optional<double> departure) mutable {
    use(self->state.door->come_back(why, self->clock().now(), departure));
  };
  self->request(self->state.parts.batcher, forecast_patience, departure_request{})
      .then([finish](const next_departure& known) mutable { finish(known.seconds); },
            [finish](const caf::error&) mutable { finish(std::nullopt); });
}

void admit(self_pointer self, submission& asked) {
  auto& st = self->state;
  ++st.counts.submitted;
  if (const auto welcome = st.door->enter(asked.id); !welcome)
    return tell_when_to_come_back(self, welcome.error(),
                                  [self, id = asked.id, listener = asked.listener](error why) {
                                    refuse(self->state, id, *listener, std::move(why));
                                  });
  const std::uint32_t num_choices = std::max(asked.asked.num_choices, 1u);
  auto& live = st.requests[asked.id];
  live.gate = std::make_shared<event_gate>(std::move(asked.listener), num_choices);
  live.unfinished = num_choices;
  auto context = std::make_shared<const request_context>(
      request_context{asked.id, std::move(asked.asked), asked.submitted, live.gate});
  // The first choice comes last: it must know the others.
  std::vector<request_actor> followers;
  for (std::uint32_t choice = 1; choice < num_choices; ++choice)
    followers.push_back(
        self->spawn(request, st.services, context, choice, std::vector<request_actor>()));
  const auto first = self->spawn(request, st.services, context, 0u, followers);
  live.choices.push_back({first});
  for (const auto& follower : followers) live.choices.push_back({follower});
  for (std::uint32_t choice = 0; choice < num_choices; ++choice) {
    const auto& actor = live.choices[choice].actor;
    st.choices.emplace(actor.id(), std::pair(asked.id, choice));
    self->monitor(actor);
  }
}

void stop_others(self_pointer self, const gateway_state::live_request& live, const error& why) {
  for (const auto& choice : live.choices)
    if (!choice.ended) self->send(choice.actor, stop_request{why});
}

void answer_drains(gateway_state& st) {
  if (!st.door->closed() || !st.requests.empty()) return;
  for (auto& promise : st.drains) promise.deliver(true);
  st.drains.clear();
}

void end_request(gateway_state& st, request_id id) {
  const auto found = st.requests.find(id);
  st.door->leave(id);
  switch (found->second.worst) {
    case choice_outcome::finished:
      ++st.counts.finished;
      break;
    case choice_outcome::cancelled:
      ++st.counts.cancelled;
      break;
    case choice_outcome::failed:
      ++st.counts.failed;
      break;
  }
  st.requests.erase(found);
  answer_drains(st);
}

void end_choice(self_pointer self, request_id id, std::uint32_t choice, choice_outcome how) {
  auto& st = self->state;
  const auto found = st.requests.find(id);
  if (found == st.requests.end() || found->second.choices.at(choice).ended) return;
  auto& live = found->second;
  live.choices[choice].ended = true;
  live.worst = std::max(live.worst, how);
  // One failed choice fails the request; its listener has heard so, and hears nothing more.
  if (how == choice_outcome::failed)
    stop_others(self, live, {errc::cancelled, "another choice of the request failed", {}});
  if (--live.unfinished == 0) end_request(st, id);
}

bool is_core(const gateway_state& st, caf::actor_id who) {
  return who == st.parts.manager.id() || who == st.parts.batcher.id() ||
         who == st.parts.runner.id();
}

void bury(self_pointer self, const caf::down_msg& down) {
  auto& st = self->state;
  const caf::actor_id who = down.source.id();
  if (is_core(st, who)) {
    // Without it no request can ever end: better a message and an end than a silent hang.
    QUIRE_CHECK(down.reason == caf::exit_reason::user_shutdown,
                "an actor that the engine cannot do without has died: " +
                    self->system().render(down.reason));
    return;
  }
  const auto found = st.choices.find(who);
  if (found == st.choices.end()) return;
  const auto [id, choice] = found->second;
  st.choices.erase(found);
  const auto live = st.requests.find(id);
  if (live == st.requests.end() || live->second.choices.at(choice).ended) return;
  spdlog::error("request {} choice {} died: {}", to_index(id), choice,
                self->system().render(down.reason));
  live->second.gate->tell(failed_event{{errc::internal, "the request's actor died", {}}});
  end_choice(self, id, choice, choice_outcome::failed);
}

void cancel(self_pointer self, request_id id) {
  const auto found = self->state.requests.find(id);
  if (found == self->state.requests.end()) return;
  spdlog::debug("request {} cancelled", to_index(id));
  stop_others(self, found->second, {errc::cancelled, "the request was cancelled", {}});
}

void pause(gateway_state& st, self_pointer self, const pause_request& asked) {
  const auto found = st.requests.find(asked.id);
  if (found == st.requests.end()) return;
  spdlog::debug("request {}: its reader {}", to_index(asked.id),
                asked.paused ? "is slow" : "has caught up");
  ++(asked.paused ? st.counts.pauses : st.counts.unpauses);
  for (const auto& choice : found->second.choices)
    if (!choice.ended) self->send(choice.actor, pause_choice{asked.paused});
}

caf::result<weighed> weigh(self_pointer self, const weigh_request& asked) {
  auto verdict = self->state.door->weigh(asked.id, asked.prompt_tokens);
  if (verdict) {
    self->state.counts.prompt_tokens += asked.prompt_tokens;
    return weighed{std::move(verdict)};
  }
  auto promise = self->make_response_promise<weighed>();
  tell_when_to_come_back(self, verdict.error(), [promise](error why) mutable {
    promise.deliver(weighed{tl::unexpected(std::move(why))});
  });
  return promise;
}

gateway_status status(const gateway_state& st) {
  gateway_status now = st.counts;
  now.waiting = st.door->waiting();
  now.running = st.requests.size() - std::min<std::uint64_t>(now.waiting, st.requests.size());
  return now;
}

}  // namespace

gateway_actor::behavior_type gateway(gateway_actor::stateful_pointer<gateway_state> self,
                                     gateway_parts parts) {
  auto& st = self->state;
  st.parts = std::move(parts);
  st.door.emplace(st.parts.limits);
  st.services = std::make_shared<const request_services>(
      request_services{self, st.parts.manager, st.parts.batcher, st.parts.vocabulary, st.parts.chat,
                       st.parts.bounds});
  self->set_down_handler([self](const caf::down_msg& down) { bury(self, down); });
  self->monitor(st.parts.manager);
  self->monitor(st.parts.batcher);
  self->monitor(st.parts.runner);
  return {
      [self](submission& asked) { admit(self, asked); },
      [self](const cancel_request& cancelled) { cancel(self, cancelled.id); },
      [self](const pause_request& asked) { pause(self->state, self, asked); },
      [self](const weigh_request& asked) { return weigh(self, asked); },
      [self](const request_started& started) {
        self->state.door->start(started.id, self->clock().now());
      },
      [self](const choice_ended& ended) { end_choice(self, ended.id, ended.choice, ended.how); },
      [self](const drain_request&) -> caf::result<bool> {
        self->state.door->close();
        auto promise = self->make_response_promise<bool>();
        self->state.drains.push_back(promise);
        answer_drains(self->state);
        return promise;
      },
      [self](const cancel_all&) {
        self->state.door->close();
        for (const auto& [id, live] : self->state.requests)
          stop_others(self, live, {errc::cancelled, "the engine is shutting down", {}});
      },
      [self](const status_request&) { return status(self->state); },
  };
}

}  // namespace quire
