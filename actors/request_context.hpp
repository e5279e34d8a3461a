// What the actors of one request's choices share.
#pragma once

#include <memory>

#include "actors/event_gate.hpp"
#include "actors/generation.hpp"
#include "actors/moment.hpp"

namespace quire {

/// Everything about a request that its choices share. Immutable.
struct request_context {
  request_id id{};
  generation_request asked;
  moment submitted;
  std::shared_ptr<event_gate> gate;
};

}  // namespace quire
