#include "actors/request_plan.hpp"

#include <algorithm>
#include <string>

namespace quire {

namespace {

// Tokens that each of the sequences could store if the request had the whole pool.
std::uint64_t pool_tokens(std::uint32_t choices, std::uint64_t prompt_tokens,
                          const request_bounds& bounds) {
  const std::uint64_t shared = choices > 1 ? (prompt_tokens - 1) / bounds.page_tokens : 0;
  const std::uint64_t own = bounds.num_pages > shared ? (bounds.num_pages - shared) / choices : 0;
  return (shared + own) * bounds.page_tokens;
}

result<std::uint32_t> new_tokens(const generation_request& asked, std::uint64_t prompt_tokens,
                                 const request_bounds& bounds) {
  const std::uint64_t context = bounds.context_tokens;
  const std::uint64_t wanted = prompt_tokens + std::max(asked.max_tokens, 1u);
  if (wanted > context) return tl::unexpected(too_long(wanted, context, "context"));
  if (asked.max_tokens > 0) return asked.max_tokens;
  // The last token is never stored: it ends the sequence.
  const std::uint64_t pool = pool_tokens(asked.num_choices, prompt_tokens, bounds) + 1;
  if (wanted > pool) return tl::unexpected(too_long(wanted, pool, "pool of pages"));
  return static_cast<std::uint32_t>(std::min(context, pool) - prompt_tokens);
}

}  // namespace

error too_long(std::uint64_t needed, std::uint64_t available, const char* what) {
  return {errc::context_length_exceeded,
          "prompt and output need " + std::to_string(needed) + " tokens, the " + what + " has " +
              std::to_string(available) + "; shorten the prompt or lower max_tokens",
          {needed, available}};
}

result<request_plan> plan_request(request_id id, const generation_request& asked,
                                  std::shared_ptr<const std::vector<token_id>> prompt,
                                  const request_bounds& bounds) {
  const std::uint64_t prompt_tokens = prompt->size();
  if (asked.num_choices == 0)
    return fail(errc::invalid_argument, "n is 0; at least one choice must be asked for");
  if (asked.score_only && (!asked.prompt_logprobs_from || asked.num_choices != 1))
    return fail(errc::invalid_argument,
                "scoring a prompt needs prompt_logprobs_from and exactly one choice");
  request_plan plan;
  if (asked.score_only) {
    if (prompt_tokens > bounds.context_tokens)
      return tl::unexpected(too_long(prompt_tokens, bounds.context_tokens, "context"));
    plan.terms.sequence_tokens = prompt_tokens - 1;  // nothing follows the last token
  } else {
    const auto most = new_tokens(asked, prompt_tokens, bounds);
    if (!most) return tl::unexpected(most.error());
    plan.max_new_tokens = *most;
    // The forks of one prompt share one budget, which does not grow.
    plan.budget_tokens = asked.num_choices > 1 ? *most : std::min(*most, bounds.budget_step_tokens);
    plan.terms.sequence_tokens = prompt_tokens + plan.budget_tokens - 1;
    plan.terms.final_tokens = prompt_tokens + *most - 1;
  }
  // The last prompt token is run by each choice for itself: what is sampled after it is its own.
  const bool last_is_own = asked.score_only || asked.num_choices > 1;
  plan.prefill_end = static_cast<std::uint32_t>(prompt_tokens - (last_is_own ? 1 : 0));
  plan.terms.request = id;
  plan.terms.shared_tokens = prompt_tokens - 1;
  plan.terms.num_sequences = asked.num_choices;
  plan.terms.priority = asked.priority;
  plan.terms.keep_prefix = asked.use_prefix_cache;
  // The token before the first scored one must be computed, and so must the last one.
  if (asked.use_prefix_cache) {
    plan.terms.max_cached_tokens = prompt_tokens - 1;
    if (asked.prompt_logprobs_from)
      plan.terms.max_cached_tokens = std::min<std::uint64_t>(
          plan.terms.max_cached_tokens, std::max(*asked.prompt_logprobs_from, 1u) - 1);
  }
  plan.terms.prompt = std::move(prompt);
  return plan;
}

budget_terms resume_terms(const budget_terms& before,
                          std::shared_ptr<const std::vector<token_id>> tokens,
                          std::uint64_t prompt_tokens, std::uint32_t budget_tokens) {
  budget_terms terms = before;
  terms.sequence_tokens = prompt_tokens + budget_tokens - 1;
  terms.max_cached_tokens = before.keep_prefix ? tokens->size() - 1 : 0;
  terms.prompt = std::move(tokens);
  terms.resumed = true;
  return terms;
}

}  // namespace quire
