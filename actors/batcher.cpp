#include "actors/batcher.hpp"

#include <spdlog/spdlog.h>
#include <algorithm>
#include <utility>

namespace quire {

namespace {

using self_pointer = batcher_actor::stateful_pointer<batcher_state>;
using phase = batcher_state::phase;

/// When no sequence could get a page, so long until the next try; pages come back with messages to
/// the manager, not to the batcher.
constexpr std::chrono::milliseconds retry_after{2};

/// Returns how long a step may take while somebody decodes: the configured time, or twice what the
/// decodes take alone where that is longer, since prompts must advance there too.
double allowed_seconds(const batcher_state& st) {
  return std::max(st.options.step_time_ms / 1000.0, 2 * st.speed.decode_step_seconds());
}

step_limits limits(const batcher_state& st) {
  step_limits bounds;
  bounds.max_streams = st.options.max_streams;
  bounds.step_tokens = st.options.step_tokens;
  const auto within =
      st.speed.prefill_tokens_within(st.aim.aim(allowed_seconds(st)), st.batch->prefill_context());
  // Without experience a small chunk is the way to get some.
  const std::uint32_t least = std::min(batch_planner::least_chunk, bounds.step_tokens);
  bounds.step_tokens_beside_decodes = std::clamp(within.value_or(least), least, bounds.step_tokens);
  return bounds;
}

void start_step(self_pointer self) {
  auto& st = self->state;
  auto items = std::make_shared<const std::vector<lease_item>>(
      st.batch->plan(limits(st), self->clock().now()));
  const bool idle = items->empty();
  st.page_work = false;
  st.now = phase::leasing;
  self->send(st.manager, lease_request{++st.step, self, std::move(items), idle});
}

// The requests hear of a step when the next one is on its way: their text work would otherwise
// stand before the batcher and the manager in the line for a worker thread.
void tell(self_pointer self) {
  auto& st = self->state;
  for (batch_news& told : std::exchange(st.untold, {})) {
    const auto owner = st.owners.find(told.sequence);
    if (owner == st.owners.end()) continue;
    const request_actor hears = owner->second;
    if (told.ended || told.parked) st.owners.erase(owner);
    self->send(hears, std::move(told));
  }
}

// There is nothing to compute in the step that was leased.
void rest(self_pointer self, bool denied) {
  auto& st = self->state;
  // Somebody may have joined while the manager looked for something to tidy up.
  if ((!st.batch->empty() || st.page_work) && !denied) return start_step(self);
  st.now = phase::resting;
  st.since = self->clock().now();
  if (st.tidy_in && !st.tidy_pending) {
    st.tidy_pending = true;
    self->delayed_send(self, *st.tidy_in, tick{true});
  }
  if (!denied || st.retry_pending) return;
  st.retry_pending = true;
  self->delayed_send(self, retry_after, tick{});
}

void wake(self_pointer self, bool tidy = false) {
  auto& st = self->state;
  if (st.now != phase::resting || (st.batch->empty() && !st.page_work && !tidy)) return;
  const moment now = self->clock().now();
  st.joined = now;
  st.idle_seconds += seconds_between(st.since, now);
  st.since = now;
  start_step(self);
}

// Its pages have left the pool: all that happened to it before has been told, or is before this.
void leave_parked(batcher_state& st, sequence_id sequence) {
  st.batch->remove(sequence);
  batch_news told;
  told.sequence = sequence;
  told.parked = true;
  st.untold.push_back(std::move(told));
}

void run(self_pointer self, const leased& pages) {
  auto& st = self->state;
  if (st.now != phase::leasing || pages->step != st.step) return;
  bool denied = false;
  st.tidy_in = pages->tidy_in;
  for (const lease_grant& grant : pages->grants) {
    denied |= grant.what == lease_grant::outcome::denied;
    if (grant.what == lease_grant::outcome::gone) leave_parked(st, grant.sequence);
  }
  for (const parked_sequence& parked : pages->parked) leave_parked(st, parked.sequence);
  auto plan = std::make_shared<const step_plan>(st.batch->assemble(std::move(*pages)));
  if (plan->sequences.empty() && plan->copies.empty() && plan->exchange.empty() &&
      !plan->trim_from_page) {
    self->send(st.manager, step_over{st.step, {true, st.batch->not_run(), {}}});
    tell(self);
    rest(self, denied);
    return;
  }
  const moment now = self->clock().now();
  st.planning_seconds += seconds_between(st.since, now);
  st.now = phase::computing;
  st.sent = now;
  self->send(st.runner, run_step{std::move(plan), self});
  tell(self);
}

void tell_failed(self_pointer self, const std::vector<sequence_id>& failed, const error& why) {
  auto& st = self->state;
  for (const sequence_id sequence : failed)
    if (const auto owner = st.owners.find(sequence); owner != st.owners.end()) {
      self->send(owner->second, sequence_failed{sequence, why});
      st.owners.erase(owner);
    }
}

void end_step(self_pointer self, const step_done& done) {
  auto& st = self->state;
  if (st.now != phase::computing || done->step != st.step) return;
  st.since = self->clock().now();
  st.batch->stepped(seconds_between(std::max(st.last_end, st.joined), st.since));
  st.last_end = st.since;
  st.exchange_seconds += done->exchange_seconds;
  if (!done->computed) {
    const auto failed = st.batch->fail();
    self->send(st.manager, step_over{st.step, {false, {}, std::move(done->not_exchanged)}});
    tell_failed(self, failed, done->computed.error());
    start_step(self);
    return;
  }
  const step_timings& took = done->computed->timings;
  st.spent.copy += took.copy;
  st.spent.forward += took.forward;
  st.spent.sample += took.sample;
  const double computed = took.copy + took.forward + took.sample;
  const step_speed::work& work = st.batch->step_work();
  if (const auto expected = st.speed.expect(work); expected && work.decodes > 0)
    st.aim.observe(seconds_between(st.sent, st.since), *expected, allowed_seconds(st));
  st.speed.observe(work, computed);
  st.transit_seconds +=
      std::max(0.0, seconds_between(st.sent, st.since) - computed - done->exchange_seconds);
  step_end how{true, st.batch->not_run(), std::move(done->not_exchanged)};
  st.untold = st.batch->apply(std::move(*done->computed));
  self->send(st.manager, step_over{st.step, std::move(how)});
  start_step(self);
}

void add(self_pointer self, ready& joins) {
  auto& st = self->state;
  const sequence_id sequence = joins.entry.sequence;
  if (st.brought.insert_or_assign(joins.owner.id(), sequence).second) self->monitor(joins.owner);
  st.owners.insert_or_assign(sequence, std::move(joins.owner));
  st.batch->add(std::move(joins.entry), self->clock().now());
  wake(self);
}

void drop(batcher_state& st, sequence_id sequence) {
  st.batch->remove(sequence);
  st.owners.erase(sequence);
}

void bury(batcher_state& st, caf::actor_id dead) {
  const auto found = st.brought.find(dead);
  if (found == st.brought.end()) return;
  drop(st, found->second);
  st.brought.erase(found);
}

batcher_status status(const batcher_state& st) {
  batcher_status now;
  now.counts = st.batch->counts();
  now.sequences = st.batch->size();
  now.seconds = {{"copy", st.spent.copy},           {"forward", st.spent.forward},
                 {"sample", st.spent.sample},       {"exchange", st.exchange_seconds},
                 {"planning", st.planning_seconds}, {"transit", st.transit_seconds},
                 {"idle", st.idle_seconds}};
  return now;
}

}  // namespace

batcher_actor::behavior_type batcher(batcher_actor::stateful_pointer<batcher_state> self,
                                     cache_manager_actor manager, model_runner_actor runner,
                                     std::shared_ptr<const tokenizer> vocabulary,
                                     scheduler_options options) {
  auto& st = self->state;
  st.options = options;
  st.options.max_streams = std::max(options.max_streams, 1u);
  st.options.step_tokens = std::max(options.step_tokens, 1u);
  st.manager = std::move(manager);
  st.runner = std::move(runner);
  st.batch.emplace(std::move(vocabulary), std::chrono::milliseconds(options.aging_ms));
  st.since = self->clock().now();
  self->set_down_handler(
      [self](const caf::down_msg& down) { bury(self->state, down.source.id()); });
  return {
      [self](ready& joins) { add(self, joins); },
      [self](const stop_sequence& stopped) { drop(self->state, stopped.sequence); },
      [self](const allow_sequence& grown) {
        self->state.batch->allow(grown.sequence, grown.budget_tokens);
        wake(self);
      },
      [self](const hold_sequence& asked) {
        self->state.batch->hold(asked.sequence, asked.held);
        wake(self);
      },
      [self](const page_work&) {
        self->state.page_work = true;
        wake(self);
      },
      [self](const leased& pages) { run(self, pages); },
      [self](const step_done& done) { end_step(self, done); },
      [self](const tick& passed) {
        (passed.tidy ? self->state.tidy_pending : self->state.retry_pending) = false;
        wake(self, passed.tidy);
      },
      [self](const forecast_request& asked) {
        return forecast{self->state.speed.forecast(asked.prompt_tokens, asked.context_tokens,
                                                   asked.new_tokens)};
      },
      [self](const departure_request&) {
        return next_departure{self->state.batch->next_departure()};
      },
      [self](const status_request&) { return status(self->state); },
  };
}

}  // namespace quire
