// The messages that carry plain data and name no actor; protocol.hpp has the others and says who
// sends what to whom.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/cache_terms.hpp"
#include "actors/generation.hpp"
#include "actors/moment.hpp"
#include "core/error.hpp"
#include "core/ids.hpp"

namespace quire {

// --- to the request ---------------------------------------------------------------------------

/// A sequence handed to a further choice, holding the shared beginning of the prompt.
struct adopt_sequence {
  sequence_id sequence{};
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint32_t stored_tokens = 0;
  std::uint32_t max_new_tokens = 0;
  generation_usage usage;  ///< what is known: prompt, cached, queued
};

/// A further choice that is to ask for a budget of its own.
struct adopt_prompt {
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint32_t max_new_tokens = 0;
  budget_terms terms;
};

/// The computation of a sequence failed.
struct sequence_failed {
  sequence_id sequence{};
  error why;
};

/// The request is to end now.
struct stop_request {
  error why;  ///< cancelled ends with finished_event, anything else with failed_event
};

/// The client reads more slowly than is generated, or no longer.
struct pause_choice {
  bool paused = false;
};

// --- to the batcher ---------------------------------------------------------------------------

/// A sequence that is to be computed no longer.
struct stop_sequence {
  sequence_id sequence{};
};

/// A sequence whose budget has grown to so many new tokens.
struct allow_sequence {
  sequence_id sequence{};
  std::uint32_t budget_tokens = 0;
};

/// A sequence that is not computed while it is held, because its reader is slow.
struct hold_sequence {
  sequence_id sequence{};
  bool held = false;
};

/// Pages wait to be parked or restored: a step is wanted, even an empty one.
struct page_work {};

/// How long will this take at the least, at the speed of late?
struct forecast_request {
  std::uint32_t prompt_tokens = 0;   ///< to compute
  std::uint32_t context_tokens = 0;  ///< before those
  std::uint32_t new_tokens = 0;
};

struct forecast {
  std::optional<double> seconds;  ///< nothing while there is no experience
};

/// When will the first of the running sequences probably have ended?
struct departure_request {};

struct next_departure {
  std::optional<double> seconds;  ///< nothing when none runs, or without experience
};

/// Time has passed; `tidy`, to the batcher: see whether the idle pool has memory to give back.
struct tick {
  bool tidy = false;
};

struct status_request {};

// --- to the cache manager ---------------------------------------------------------------------

struct accept_offer {
  ticket_id ticket{};
};

struct decline_offer {
  ticket_id ticket{};
};

struct extend_request {
  sequence_id sequence{};
  std::uint64_t sequence_tokens = 0;
};

struct step_over {
  std::uint64_t step = 0;
  step_end how;
};

/// What a request says to a yield_ask, or of itself when it cannot go on.
struct yield_answer {
  sequence_id sequence{};
  yield_choice how = yield_choice::park;
  std::uint64_t resume_tokens = 0;  ///< what its sequence is to store when it comes back
  std::string reason;               ///< of a refusal
};

/// The request's reader is slow, or no longer.
struct hold_request {
  ticket_id ticket{};
  bool held = false;
};

struct truncate_sequence {
  sequence_id sequence{};
  std::uint64_t tokens = 0;
};

struct release_sequence {
  sequence_id sequence{};
};

/// Asks for a status with all invariants verified: O(pages).
struct check_request {};

// --- to the gateway ---------------------------------------------------------------------------

struct submission {
  request_id id{};
  generation_request asked;
  std::shared_ptr<generation_listener> listener;
  moment submitted;
};

struct cancel_request {
  request_id id{};
};

/// The client's buffer is full, or has drained.
struct pause_request {
  request_id id{};
  bool paused = false;
};

/// A request knows its prompt's length: may it stay in the queue?
struct weigh_request {
  request_id id{};
  std::uint32_t prompt_tokens = 0;
};

struct weighed {
  result<void> verdict;
};

struct request_started {
  request_id id{};
};

enum class choice_outcome : std::uint8_t { finished, cancelled, failed };

/// A choice has told its last event.
struct choice_ended {
  request_id id{};
  std::uint32_t choice = 0;
  choice_outcome how = choice_outcome::finished;
};

/// Takes no new requests; answered when the last one has ended.
struct drain_request {};

/// Cancels all that is left.
struct cancel_all {};

}  // namespace quire
