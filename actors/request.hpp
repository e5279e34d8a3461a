// One choice of one request: prompt, negotiation, text, end. The first choice speaks for all of
// them until the prompt is computed; then each of the others adopts a fork of its sequence.
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
  std::vector<request_actor> separate;   ///< the same, when they ask for budgets of their own

  std::shared_ptr<const std::vector<token_id>> prompt;
  budget_terms terms;  ///< of the first budget
  std::uint32_t max_new_tokens = 0;
  std::uint64_t granted_tokens = 0;  ///< that the sequence may store under its present budget
  std::uint32_t budget_tokens = 0;   ///< new tokens among them
  bool extending = false;            ///< asked for more, not answered yet
  std::vector<token_id> output;
  std::optional<ticket_id> ticket;  ///< waiting for, or holding, an offer
  std::optional<sequence_id> sequence;
  std::uint32_t stored_tokens = 0;  ///< in the sequence when it was handed over
  bool started = false;
  bool in_batch = false;
  bool yielding = false;             ///< said that it parks; the pages have not left yet
  std::uint64_t resume_tokens = 0;   ///< budget that it will come back with
  std::optional<offer> early_offer;  ///< came before the last news of the sequence before
  bool scores_told = false;          ///< or there were none to tell
  bool paused = false;               ///< its reader is slow
  bool deadline_checked = false;     ///< against the engine's speed
  std::optional<choice_text> text;
  generation_usage usage;
  bool admitted = false;
  bool ended = false;

  static constexpr const char* name = "request";
};

using request_pointer = request_actor::stateful_pointer<request_state>;

// What the two halves of a request's actor need of each other: its life (request.cpp) and its
// dealings with the cache manager (request_budget.cpp).

/// Ends the request with an error.
void fail_request(request_pointer self, error why);
/// Handles CAF's own errors (a timeout, a dead actor): defects of ours, not of the request.
inline auto on_lost(request_pointer self) {
  return [self](const caf::error& lost) {
    fail_request(self,
                 {errc::internal, "an actor did not answer: " + self->system().render(lost), {}});
  };
}
/// Tells the listener, once, that the request was accepted.
void admit(request_pointer self);
/// Returns the time that the deadline leaves; nothing when there is none.
std::optional<std::chrono::milliseconds> time_left(request_pointer self);
/// Ends the request because so many milliseconds would be needed.
void fail_too_slow(request_pointer self, std::int64_t needed_ms, std::int64_t left_ms);
/// Goes on with a sequence that holds `stored_tokens`.
void start(request_pointer self, std::uint32_t stored_tokens);

/// Asks for the budget of `terms`.
void negotiate(request_pointer self, budget_terms terms);
/// Asks for more than the present budget.
void grow(request_pointer self);
/// Asks for more in time, so that the sequence need not pause, and again when it does.
void keep_going(request_pointer self);
void hear_offer(request_pointer self, const offer& made);
void hear_ask(request_pointer self, const yield_ask& ask);
void hear_taken_back(request_pointer self, const taken_back& lost);
/// The pages of the sequence have left the pool; all that was computed before has been heard.
void hear_parked(request_pointer self);
/// The reader is slow, or no longer.
void pause(request_pointer self, bool paused);

/// `followers` are empty for all but the first choice.
request_actor::behavior_type request(request_actor::stateful_pointer<request_state> self,
                                     std::shared_ptr<const request_services> services,
                                     std::shared_ptr<const request_context> context,
                                     std::uint32_t choice, std::vector<request_actor> followers);

}  // namespace quire
