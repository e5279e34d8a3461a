// The whole engine on a page: who may say what to whom.
//
//   engine --submission--> gateway --spawns--> request (one per choice)
//   request --budget_request--> cache_manager   offer | counter_offer | refusal   (the negotiation)
//   request --ready--> batcher                  the sequence may be computed
//   batcher --lease_request--> cache_manager --leased--> batcher                  (once per step)
//   batcher --run_step--> model_runner --step_done--> batcher
//   batcher --batch_news--> request --events--> listener
//   request --release_sequence--> cache_manager
//
// Decisions are taken by plain classes without actors and without a clock: admission (gateway),
// cache_accounts over budget_ledger, page_store and prefix_index (cache_manager), running_batch
// over batch_planner (batcher), choice_text (request). An actor unpacks a message, calls one of
// them and sends what it returned.
//
// The hot loop (lease_request, leased, run_step, step_done, step_over, batch_news) uses plain
// sends: a request with a timeout would set two timers per step. A manager, batcher or runner that
// dies ends the process with a message (the gateway watches them), so nobody waits for a dead one.
// Every replies_to is asked with a timeout and an error handler. The death of a request actor is
// its release: manager and batcher monitor it.
//
// All messages stay within the process and are moved, never serialized; page bytes are in none.
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/replies_to.hpp>
#include <caf/type_id.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "actors/messages.hpp"
#include "actors/request_context.hpp"
#include "actors/running_batch.hpp"
#include "actors/status.hpp"
#include "actors/step.hpp"

namespace quire {

/// How long anybody waits for an answer of another actor. All answer at once; this is for defects.
inline constexpr std::chrono::seconds answer_timeout{30};

// --- request -----------------------------------------------------------------------------------

using request_actor = caf::typed_actor<
    // The offer after a counter_offer or after having been parked: the pages are there.
    caf::reacts_to<offer>,
    // Others need pages: will you park, recompute, or not?
    caf::reacts_to<yield_ask>,
    // Your pages are gone, ask anew.
    caf::reacts_to<taken_back>,
    // The listener's buffer is full, or has drained.
    caf::reacts_to<pause_choice>,
    // First choice to the others: your copy of the prompt.
    caf::reacts_to<adopt_sequence>,
    // The same where the choices do not share a budget: ask for your own.
    caf::reacts_to<adopt_prompt>,
    // What the last step did for this request's sequence.
    caf::reacts_to<batch_news>,
    // The step with this sequence failed; the request fails, nobody else does.
    caf::reacts_to<sequence_failed>,
    // Cancel, deadline, shutdown.
    caf::reacts_to<stop_request>>;

// --- batcher -----------------------------------------------------------------------------------

/// A sequence that may be computed, and who hears of it.
struct ready {
  request_actor owner;
  batch_entry entry;
};

/// The answer to lease_request.
using leased = std::shared_ptr<step_pages>;

/// The answer to run_step.
using step_done = std::shared_ptr<step_outcome>;

using batcher_actor = caf::typed_actor<
    // Joins the batch with the next step.
    caf::reacts_to<ready>,
    // Leaves the batch at once; a step in flight may compute one token too many.
    caf::reacts_to<stop_sequence>,
    // Goes on beyond its first budget.
    caf::reacts_to<allow_sequence>,
    // Stays in the batch without being computed.
    caf::reacts_to<hold_sequence>,
    // Somebody waits for pages to be parked or restored.
    caf::reacts_to<page_work>,
    // Pages for the step that was planned.
    caf::reacts_to<leased>,
    // The step's result, or why it failed.
    caf::reacts_to<step_done>,
    // To itself: nobody could get pages a moment ago, try again.
    caf::reacts_to<tick>,
    // For deadlines.
    caf::replies_to<forecast_request>::with<forecast>,
    // For those who are told to come back later.
    caf::replies_to<departure_request>::with<next_departure>,
    // Counts and times.
    caf::replies_to<status_request>::with<batcher_status>>;

// --- cache manager -----------------------------------------------------------------------------

struct budget_request {
  request_actor owner;
  budget_terms terms;
};

struct lease_request {
  std::uint64_t step = 0;
  batcher_actor answer_to;
  std::shared_ptr<const std::vector<lease_item>> items;
  bool idle = false;  ///< nothing to compute: tidy up instead
};

struct fork_request {
  sequence_id parent{};
  std::vector<request_actor> owners;  ///< one per new sequence
};

/// The new sequences, in the order of the owners, or why there are none.
struct forked {
  result<std::vector<sequence_id>> sequences;
};

using cache_manager_actor = caf::typed_actor<
    // May I have pages? Now, later (an offer will follow), or never.
    caf::replies_to<budget_request>::with<budget_answer>,
    // I take the offer; true, or false when it had expired.
    caf::replies_to<accept_offer>::with<bool>,
    // May my sequence grow to so many tokens? The answer may take until others have yielded. False:
    // not now; whoever cannot wait yields itself.
    caf::replies_to<extend_request>::with<bool>,
    // My answer to yield_ask, or: I cannot go on and park.
    caf::reacts_to<yield_answer>,
    // My reader is slow: take my pages first.
    caf::reacts_to<hold_request>,
    // I give up the ticket, offered or waiting.
    caf::reacts_to<decline_offer>,
    // Pin and prepare the pages of a step. Answered with `leased`.
    caf::reacts_to<lease_request>,
    // The step is over: unpin, index full pages, serve the queue.
    caf::reacts_to<step_over>,
    // Copies of a sequence that share all its pages.
    caf::replies_to<fork_request>::with<forked>,
    // Drop stored tokens at the end of a sequence.
    caf::reacts_to<truncate_sequence>,
    // The sequence has ended; its full pages stay in the prefix index.
    caf::reacts_to<release_sequence>,
    // To itself: something waits to be served, or time has passed.
    caf::reacts_to<tick>,
    // Counts, fragmentation, budgets.
    caf::replies_to<status_request>::with<cache_status>,
    // The same after checking every invariant.
    caf::replies_to<check_request>::with<cache_status>>;

// --- model runner ------------------------------------------------------------------------------

struct run_step {
  std::shared_ptr<const step_plan> plan;
  batcher_actor answer_to;
};

using model_runner_actor = caf::typed_actor<
    // Compute this. Answered with `step_done`.
    caf::reacts_to<run_step>>;

// --- gateway -----------------------------------------------------------------------------------

using gateway_actor = caf::typed_actor<
    // Admit or refuse, and spawn one request actor per choice.
    caf::reacts_to<submission>,
    // The client left.
    caf::reacts_to<cancel_request>,
    // The client reads too slowly, or has caught up.
    caf::reacts_to<pause_request>,
    // The queue's limit in tokens.
    caf::replies_to<weigh_request>::with<weighed>,
    // The request holds pages and waits no longer.
    caf::reacts_to<request_started>,
    // One of the request's choices is over.
    caf::reacts_to<choice_ended>,
    // No new requests; answers true when all have ended.
    caf::replies_to<drain_request>::with<bool>,
    // End whatever still runs.
    caf::reacts_to<cancel_all>,
    // Counts.
    caf::replies_to<status_request>::with<gateway_status>>;

}  // namespace quire

// --- type ids: every message above, node-local ---------------------------------------------------

// clang-format off
#define QUIRE_MESSAGES(X)                                                                        \
  X(quire::offer) X(quire::yield_ask) X(quire::taken_back) X(quire::pause_choice)                \
  X(quire::adopt_sequence) X(quire::adopt_prompt) X(quire::batch_news)                           \
  X(quire::sequence_failed) X(quire::stop_request) X(quire::ready) X(quire::stop_sequence)       \
  X(quire::allow_sequence) X(quire::hold_sequence) X(quire::page_work) X(quire::leased)          \
  X(quire::step_done) X(quire::tick) X(quire::forecast_request) X(quire::forecast)               \
  X(quire::departure_request) X(quire::next_departure)                                           \
  X(quire::status_request) X(quire::batcher_status) X(quire::budget_request)                     \
  X(quire::budget_answer) X(quire::accept_offer) X(quire::decline_offer)                         \
  X(quire::extend_request) X(quire::yield_answer) X(quire::hold_request)                         \
  X(quire::lease_request) X(quire::step_over) X(quire::fork_request) X(quire::forked)            \
  X(quire::truncate_sequence) X(quire::release_sequence) X(quire::cache_status)                  \
  X(quire::check_request) X(quire::run_step) X(quire::submission) X(quire::cancel_request)       \
  X(quire::pause_request) X(quire::weigh_request) X(quire::weighed) X(quire::request_started)    \
  X(quire::choice_ended) X(quire::drain_request) X(quire::cancel_all) X(quire::gateway_status)
// clang-format on
#define QUIRE_ADD_MESSAGE(type) CAF_ADD_TYPE_ID(quire_actors, (type))

QUIRE_MESSAGES(CAF_ALLOW_UNSAFE_MESSAGE_TYPE)
CAF_BEGIN_TYPE_ID_BLOCK(quire_actors, first_custom_type_id)
QUIRE_MESSAGES(QUIRE_ADD_MESSAGE)
CAF_END_TYPE_ID_BLOCK(quire_actors)
#undef QUIRE_ADD_MESSAGE
