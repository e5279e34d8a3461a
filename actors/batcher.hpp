// Drives the steps: plan, lease, run, apply, again. One step is in flight at a time.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <unordered_map>

#include "actors/protocol.hpp"

namespace quire {

struct batcher_state {
  batcher_state() {}

  scheduler_options options;
  cache_manager_actor manager;
  model_runner_actor runner;
  std::optional<running_batch> batch;
  step_speed speed;
  step_aim aim;
  std::unordered_map<sequence_id, request_actor> owners;
  /// The sequence that a request actor brought last, for when it dies.
  std::unordered_map<caf::actor_id, sequence_id> brought;

  std::vector<batch_news> untold;  ///< of the last step, until the next one computes

  enum class phase : std::uint8_t { resting, leasing, computing };
  phase now = phase::resting;
  std::uint64_t step = 0;
  moment last_end;  ///< of the step before
  moment joined;    ///< when the last rest ended
  moment since;     ///< when the present stretch of planning or resting began
  bool retry_pending = false;
  std::optional<std::chrono::milliseconds> tidy_in;  ///< the manager's wish, of the last lease
  bool tidy_pending = false;
  bool page_work = false;  ///< the manager wants a step for pages to be parked or restored
  double planning_seconds = 0;
  double transit_seconds = 0;  ///< of plans and results between batcher and runner
  double exchange_seconds = 0;
  moment sent;  ///< the plan of the present step, to the runner
  double idle_seconds = 0;
  step_timings spent;  ///< by the model runner

  static constexpr const char* name = "batcher";
};

batcher_actor::behavior_type batcher(batcher_actor::stateful_pointer<batcher_state> self,
                                     cache_manager_actor manager, model_runner_actor runner,
                                     std::shared_ptr<const tokenizer> vocabulary,
                                     scheduler_options options);

}  // namespace quire
