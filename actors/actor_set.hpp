// Spawns the five kinds of actors and knows how to ask and end them. The engine facade stands on
// it, and so do tests, under another scheduler.
#pragma once

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include "actors/gateway.hpp"
#include "actors/protocol.hpp"

namespace quire {

struct actor_set {
  gateway_actor gateway;
  cache_manager_actor manager;
  batcher_actor batcher;
  model_runner_actor runner;
};

/// CAF's settings for the engine: its messages, and few threads that sleep when idle, beside
/// oneTBB.
class actor_config : public caf::actor_system_config {
 public:
  explicit actor_config(const actors_options& options);
};

struct spawn_mode {
  /// The model runner has a thread of its own, as it must in production; under a test scheduler it
  /// may not.
  bool detached = true;
  std::uint32_t budget_step_tokens = request_bounds().budget_step_tokens;
  /// Pages that may be parked; nothing: as the options say.
  std::optional<park_ledger::limits> park;
};

/// Spawns the actors over the parts. Errors: invalid_argument (sizes that cannot work).
result<actor_set> spawn_actors(caf::actor_system& system, const engine_options& options,
                               engine::parts& given, spawn_mode how = {});

}  // namespace quire
