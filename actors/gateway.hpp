// The door: admits or refuses, spawns request actors, remembers who runs, and watches over all.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <map>
#include <unordered_map>

#include "actors/admission.hpp"
#include "actors/protocol.hpp"
#include "actors/request.hpp"

namespace quire {

/// The actors that a gateway gives to its requests, and their limits.
struct gateway_parts {
  cache_manager_actor manager;
  batcher_actor batcher;
  model_runner_actor runner;
  std::shared_ptr<const tokenizer> vocabulary;
  std::shared_ptr<const chat_template> chat;
  request_bounds bounds;
  admission::limits limits;
};

struct gateway_state {
  gateway_state() {}

  gateway_parts parts;
  std::shared_ptr<const request_services> services;
  std::optional<admission> door;
  struct live_choice {
    request_actor actor;
    bool ended = false;
  };
  struct live_request {
    std::shared_ptr<event_gate> gate;
    std::vector<live_choice> choices;
    std::uint32_t unfinished = 0;
    bool started = false;
    choice_outcome worst = choice_outcome::finished;
  };
  std::map<request_id, live_request> requests;
  /// Whose choice an actor is, to notice deaths.
  std::unordered_map<caf::actor_id, std::pair<request_id, std::uint32_t>> choices;
  std::vector<caf::typed_response_promise<bool>> drains;
  gateway_status counts;

  static constexpr const char* name = "gateway";
};

gateway_actor::behavior_type gateway(gateway_actor::stateful_pointer<gateway_state> self,
                                     gateway_parts parts);

}  // namespace quire
