#include "actors/request_plan.hpp"

#include <algorithm>
#include <string>

namespace quire {

namespace {

// Whether the choices each ask for a budget of their own instead of forking one sequence. Forks
// share one budget, promised in full: good for short answers, and more than there may be for long
// or many ones. Apart they find the prompt in the prefix index, grow, wait and give way one by one.
bool choices_apart(const generation_request& asked, std::uint64_t prompt_tokens,
                   const request_bounds& bounds) {
  if (asked.num_choices <= 1) return false;
  if (asked.max_tokens == 0 || asked.max_tokens > bounds.budget_step_tokens) return true;
  const std::uint64_t shared = (prompt_tokens - 1) / bounds.page_tokens;
  const std::uint64_t each =
      (prompt_tokens + asked.max_tokens - 1 + bounds.page_tokens - 1) / bounds.page_tokens - shared;
  return shared + each * asked.num_choices > bounds.num_pages / 2;
}

result<std::uint32_t> new_tokens(const generation_request& asked, std::uint64_t prompt_tokens,
                                 const request_bounds& bounds) {
  const std::uint64_t context = bounds.context_tokens;
  const std::uint64_t wanted = prompt_tokens + std::max(asked.max_tokens, 1u);
  if (wanted > context) return tl::unexpected(too_long(wanted, context, "context"));
  if (asked.max_tokens > 0) return asked.max_tokens;
  // The last token is never stored: it ends the sequence.
  const std::uint64_t pool = std::uint64_t{bounds.num_pages} * bounds.page_tokens + 1;
  if (wanted > pool) return tl::unexpected(too_long(wanted, pool, "pool of pages"));
  return static_cast<std::uint32_t>(std::min(context, pool) - prompt_tokens);
}

// A first budget that is smaller than the usual one: the prompt and a bit, or half of a long
// prompt, to be computed in parts. Scoring a prompt needs all of it at once.
std::uint64_t least_tokens(const generation_request& asked, std::uint64_t prompt_tokens,
                           std::uint32_t max_new_tokens) {
  constexpr std::uint64_t long_prompt = 512;
  constexpr std::uint32_t a_bit = 64;
  if (asked.num_choices > 1 || asked.prompt_logprobs_from) return 0;
  if (prompt_tokens >= long_prompt) return prompt_tokens / 2;
  return prompt_tokens + std::min(max_new_tokens, a_bit) - 1;
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
    plan.separate = choices_apart(asked, prompt_tokens, bounds);
    plan.budget_tokens = std::min(*most, bounds.budget_step_tokens);
    plan.terms.sequence_tokens = prompt_tokens + plan.budget_tokens - 1;
    plan.terms.final_tokens = prompt_tokens + *most - 1;
    plan.terms.least_tokens = least_tokens(asked, prompt_tokens, *most);
  }
  // The last prompt token is run by each choice for itself: what is sampled after it is its own.
  const bool last_is_own = asked.score_only || asked.num_choices > 1;
  plan.prefill_end = static_cast<std::uint32_t>(prompt_tokens - (last_is_own ? 1 : 0));
  plan.terms.request = id;
  plan.terms.user = asked.user;
  plan.terms.shared_tokens = prompt_tokens - 1;
  plan.terms.num_sequences = plan.separate ? 1 : asked.num_choices;
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
                          std::uint64_t sequence_tokens) {
  budget_terms terms = before;
  // Nothing was generated yet: what the first budget was asked for, with its limits, will do.
  if (before.prompt->size() < tokens->size()) {
    terms.sequence_tokens = sequence_tokens;
    terms.max_cached_tokens = before.keep_prefix ? tokens->size() - 1 : 0;
    terms.prompt = std::move(tokens);
  }
  terms.resumed = true;
  return terms;
}

}  // namespace quire
