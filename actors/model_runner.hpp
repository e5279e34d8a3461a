// Computes steps, one after the other, with whatever step_executor it was given.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <chrono>

#include "actors/protocol.hpp"

namespace quire {

struct model_runner_state {
  model_runner_state() {}

  std::shared_ptr<step_executor> executor;

  static constexpr const char* name = "model-runner";
};

/// To be spawned detached: a step takes the thread for milliseconds. After a step it stays awake
/// for as long as `awake`: the next one follows after a few messages, in less time than it takes to
/// sleep and be woken.
model_runner_actor::behavior_type model_runner(
    model_runner_actor::stateful_pointer<model_runner_state> self,
    std::shared_ptr<step_executor> executor, std::chrono::microseconds awake);

}  // namespace quire
