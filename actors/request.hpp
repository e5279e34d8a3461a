// One choice of one request: prompt, negotiation, text, end. The first choice speaks for all of them
// until the prompt is computed; then each of the others adopts a fork of its sequence.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/choice_text.hpp"
#include "actors/protocol.hpp"
#include "actors/request_plan.hpp"

namespace quire {

/// Whom and what a request actor needs.
struct request_services {
  gateway_actor gateway;
  cache_manager_actor manager;
  batcher_actor batcher;
  std::shared_ptr<const tokenizer> vocabulary;
  std::shared_ptr<const chat_template> chat;  ///< may be null
  request_bounds bounds;
};

struct request_state {
  request_state() {}

  std::shared_ptr<const request_services> services;
  std::shared_ptr<const request_context> context;
  std::uint32_t choice = 0;
  std::vector<request_actor> followers;  ///< the other choices; only the first choice has them

  std::shared_ptr<const std::vector<token_id>> prompt;
  budget_terms terms;                    ///< of the first budget
  std::uint32_t max_new_tokens = 0;
  std::uint32_t budget_tokens = 0;       ///< new tokens that the present budget is for
  bool extending = false;                ///< asked for more, not answered yet
  std::vector<token_id> output;          ///< kept while the budget may have to grow
  std::optional<ticket_id> ticket;       ///< waiting for, or holding, an offer
  std::optional<sequence_id> sequence;
  std::uint32_t stored_tokens = 0;       ///< in the sequence when it was handed over
  std::optional<choice_text> text;
  generation_usage usage;
  bool admitted = false;
  bool ended = false;

  static constexpr const char* name = "request";
};

/// `followers` are empty for all but the first choice.
request_actor::behavior_type request(request_actor::stateful_pointer<request_state> self,
                                     std::shared_ptr<const request_services> services,
                                     std::shared_ptr<const request_context> context,
                                     std::uint32_t choice, std::vector<request_actor> followers);

}  // namespace quire
