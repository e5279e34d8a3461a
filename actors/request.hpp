// One choice of one request: prompt, negotiation, text, end. The first choice speaks for all of them
// until the prompt is computed; then each of the others adopts a fork of its sequence.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/choice_text.hpp"
#include "actors/protocol.hpp"

namespace quire {

/// Whom and what a request actor needs.
struct request_services {
  gateway_actor gateway;
  cache_manager_actor manager;
  batcher_actor batcher;
  std::shared_ptr<const tokenizer> vocabulary;
  std::shared_ptr<const chat_template> chat;  ///< may be null
  std::uint32_t context_tokens = 0;
  std::uint32_t page_tokens = 0;
  std::uint32_t num_pages = 0;
};

struct request_state {
  request_state() {}

  std::shared_ptr<const request_services> services;
  std::shared_ptr<const request_context> context;
  std::uint32_t choice = 0;
  std::vector<request_actor> followers;  ///< the other choices; only the first choice has them

  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint32_t max_new_tokens = 0;
  std::optional<ticket_id> ticket;       ///< waiting for, or holding, an offer
  std::optional<sequence_id> sequence;
  std::uint32_t stored_tokens = 0;       ///< of the prompt, when the sequence was handed over
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
