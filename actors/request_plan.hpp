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
};

struct request_plan {
  budget_terms terms;
  std::uint32_t max_new_tokens = 0;  ///< 0: only the prompt is scored
  std::uint32_t prefill_end = 0;     ///< prompt tokens to store before sampling or forking
};

/// Without max_tokens a request may fill the context, or the whole pool where that is smaller. Errors:
/// invalid_argument (figures that contradict each other), context_length_exceeded (both numbers).
result<request_plan> plan_request(request_id id, const generation_request& asked,
                                  std::shared_ptr<const std::vector<token_id>> prompt,
                                  const request_bounds& bounds);

/// The error for a prompt and output that can never fit.
error too_long(std::uint64_t needed, std::uint64_t available, const char* what);

}  // namespace quire
