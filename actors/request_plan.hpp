// How much of the engine a request takes: checks its figures and works out its budget. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "actors/cache_accounts.hpp"
#include "actors/generation.hpp"

namespace quire {

/// The engine's sizes that bound a request.
struct request_bounds {
  std::uint32_t context_tokens = 0;
  std::uint32_t page_tokens = 0;
  std::uint32_t num_pages = 0;
  /// A budget is for at most so many new tokens at a time. Most answers are shorter than what their
  /// requests allow; promising them all of it would leave most of the pool unused.
  std::uint32_t budget_step_tokens = 512;
};

struct request_plan {
  budget_terms terms;
  std::uint32_t max_new_tokens = 0;  ///< 0: only the prompt is scored
  std::uint32_t budget_tokens = 0;   ///< new tokens that the first budget is for
  bool separate = false;             ///< each choice has a budget of its own, which can grow
  std::uint32_t prefill_end = 0;     ///< prompt tokens to store before sampling or forking
};

/// Without max_tokens a request may fill the context, or the whole pool where that is smaller.
/// Errors: invalid_argument (figures that contradict each other), context_length_exceeded (both
/// numbers).
result<request_plan> plan_request(request_id id, const generation_request& asked,
                                  std::shared_ptr<const std::vector<token_id>> prompt,
                                  const request_bounds& bounds);

/// What to ask for after the pages were given up: `tokens` are the prompt and all that was
/// generated, `sequence_tokens` what the sequence is to store.
budget_terms resume_terms(const budget_terms& before,
                          std::shared_ptr<const std::vector<token_id>> tokens,
                          std::uint64_t sequence_tokens);

/// The error for a prompt and output that can never fit.
error too_long(std::uint64_t needed, std::uint64_t available, const char* what);

}  // namespace quire
