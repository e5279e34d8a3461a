#include "actors/model_runner.hpp"

#include <spdlog/spdlog.h>
#include <chrono>
#include <exception>
#include <thread>

namespace quire {

namespace {

std::vector<park_id> exchange(step_executor& executor, const page_exchange& orders) {
  if (orders.empty()) return {};
  try {
    return executor.exchange(orders);
  } catch (const std::exception& failure) {
    spdlog::error("pages could not be parked: {}", failure.what());
  }
  std::vector<park_id> all;
  for (const park_order& order : orders.parks) all.push_back(order.id);
  for (const unpark_order& order : orders.unparks) all.push_back(order.id);
  return all;
}

// The bridge between a model that may throw (memory, arithmetic libraries) and an actor that may
// not.
result<step_result> compute(step_executor& executor, const step_plan& plan) {
  try {
    return executor.run(plan);
  } catch (const std::exception& failure) {
    return fail(errc::internal, std::string("the step could not be computed: ") + failure.what());
  } catch (...) {
    return fail(errc::internal, "the step could not be computed");
  }
}

// Waits for a message. Gives the core away, if somebody wants it.
void stay_awake(model_runner_actor::stateful_pointer<model_runner_state> self,
                std::chrono::microseconds most) {
  if (most.count() == 0) return;
  const auto until = std::chrono::steady_clock::now() + most;
  while (self->mailbox().empty() && std::chrono::steady_clock::now() < until)
    std::this_thread::yield();
}

}  // namespace

model_runner_actor::behavior_type model_runner(
    model_runner_actor::stateful_pointer<model_runner_state> self,
    std::shared_ptr<step_executor> executor, std::chrono::microseconds awake) {
  self->state.executor = std::move(executor);
  return {[self, awake](const run_step& asked) {
    auto& computes = *self->state.executor;
    const auto begin = std::chrono::steady_clock::now();
    auto failed = exchange(computes, asked.plan->exchange);
    const auto exchanged = std::chrono::steady_clock::now();
    auto outcome = std::make_shared<step_outcome>(
        step_outcome{asked.plan->step, compute(computes, *asked.plan), std::move(failed),
                     seconds_between(begin, exchanged)});
    if (outcome->computed && outcome->computed->outputs.size() != asked.plan->sequences.size())
      outcome->computed = fail(errc::internal, "the step answered for other sequences");
    if (!outcome->computed)
      spdlog::error("step {} failed: {}", asked.plan->step, outcome->computed.error().message);
    self->send(asked.answer_to, step_done(std::move(outcome)));
    stay_awake(self, awake);
  }};
}

}  // namespace quire
