// A model for tests whose memory is the page table: it stores token ids in (page, slot) where a
// real model stores keys and values, reads all of a sequence back through its table, and picks the
// next token by hashing what it read. A page that was shared, moved, freed or copied wrongly shows
// up as wrong text, and `expected_text` says by plain arithmetic what is right.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/step.hpp"

namespace quire::testing {

/// What the scripted model does after `tokens`: a lower-case letter, or now and then the end token.
struct script {
  std::uint32_t end_one_in = 0;  ///< 0: never ends by itself
  token_id end_token{257};

  static std::uint64_t hash(std::span<const token_id> tokens, std::uint64_t seed) {
    std::uint64_t h = 0xcbf29ce484222325u ^ (seed * 0x9e3779b97f4a7c15u);
    for (const token_id token : tokens) {
      h = (h ^ to_index(token)) * 0x100000001b3u;
      h ^= h >> 29;
    }
    return h;
  }
  token_id next(std::span<const token_id> tokens, std::uint64_t seed) const {
    const std::uint64_t h = hash(tokens, seed);
    if (end_one_in > 0 && (h >> 32) % end_one_in == 0) return end_token;
    return token_id{static_cast<std::uint32_t>('a' + h % 26)};
  }
  static float logprob(std::span<const token_id> before, token_id token) {
    return -static_cast<float>((hash(before, 7) + to_index(token)) % 1000) / 100.0f;
  }
};

/// The text of `max_tokens` tokens after a prompt, had the request been alone.
inline std::string expected_text(const script& model, std::vector<token_id> tokens,
                                 std::uint64_t seed, std::uint32_t max_tokens) {
  std::string text;
  for (std::uint32_t i = 0; i < max_tokens; ++i) {
    const token_id token = model.next(tokens, seed);
    if (token == model.end_token) break;
    text += static_cast<char>(to_index(token));
    tokens.push_back(token);
  }
  return text;
}

class scripted_executor final : public step_executor {
 public:
  scripted_executor(script model, std::uint32_t num_pages, std::uint32_t page_tokens)
      : model_(model),
        page_tokens_(page_tokens),
        slots_(std::size_t{num_pages} * page_tokens, nothing) {}

  /// Called with every plan before it is computed; an error it returns is the step's.
  std::function<result<void>(const step_plan&)> before_step;

  /// Called for every copy that is made or read back; false makes it fail.
  std::function<bool(park_id)> before_exchange;

  std::vector<park_id> exchange(const page_exchange& orders) override {
    std::vector<park_id> failed;
    const auto fails = [&](park_id id) {
      if (!before_exchange || before_exchange(id)) return false;
      failed.push_back(id);
      return true;
    };
    for (const park_id id : orders.drops) parked_.erase(id);
    for (const park_order& order : orders.parks) {
      if (fails(order.id)) continue;
      auto& copy = parked_[order.id];
      for (const page_id page : order.pages)
        for (std::uint32_t i = 0; i < page_tokens_; ++i) copy.push_back(slots_.at(slot(page, i)));
      // What is parked may be overwritten at once: whoever reads it there shows up as wrong text.
    }
    for (const unpark_order& order : orders.unparks) {
      if (fails(order.id)) continue;
      const auto& copy = parked_.at(order.id);
      for (std::size_t p = 0; p < order.pages.size(); ++p)
        for (std::uint32_t i = 0; i < page_tokens_; ++i)
          slots_.at(slot(order.pages[p], i)) = copy.at((order.first_page + p) * page_tokens_ + i);
    }
    return failed;
  }
  /// Copies held outside the pages.
  std::size_t num_parked() const { return parked_.size(); }

  result<step_result> run(const step_plan& plan) override {
    if (before_step)
      if (auto allowed = before_step(plan); !allowed) return tl::unexpected(allowed.error());
    for (const page_copy& copy : plan.copies)
      for (std::uint32_t i = 0; i < copy.tokens; ++i)
        slots_.at(slot(copy.to, i)) = slots_.at(slot(copy.from, i));
    if (plan.trim_from_page)
      std::fill(slots_.begin() + *plan.trim_from_page * page_tokens_, slots_.end(), nothing);
    // All write before any reads, as in a layer of a real model: a page written by two would show.
    for (const step_sequence& s : plan.sequences)
      for (std::size_t i = 0; i < s.tokens.size(); ++i)
        slots_.at(at(s, s.first_position + i)) = to_index(s.tokens[i]);
    step_result done;
    done.step = plan.step;
    done.timings = {0.0, 0.001, 0.0};
    for (const step_sequence& s : plan.sequences) {
      auto output = compute(s);
      if (!output) return tl::unexpected(output.error());
      done.outputs.push_back(std::move(*output));
    }
    return done;
  }

 private:
  static constexpr std::uint32_t nothing = 0xffffffff;

  std::size_t slot(page_id page, std::size_t offset) const {
    return std::size_t{to_index(page)} * page_tokens_ + offset;
  }
  std::size_t at(const step_sequence& s, std::size_t position) const {
    return slot(s.table.at(position / page_tokens_), position % page_tokens_);
  }

  result<step_output> compute(const step_sequence& s) {
    std::vector<token_id> tokens;
    for (std::size_t i = 0; i < s.first_position + s.tokens.size(); ++i) {
      const std::uint32_t token = slots_.at(at(s, i));
      if (token == nothing)
        return fail(errc::internal, "position " + std::to_string(i) + " was never written");
      tokens.push_back(token_id{token});
    }
    step_output output;
    output.sequence = s.sequence;
    for (std::size_t i = 0; i < s.score.size(); ++i) {
      const auto before = std::span(tokens).first(s.first_position + s.first_scored + i + 1);
      const token_id best = model_.next(before, 0);
      output.scores.push_back(
          {script::logprob(before, s.score[i]), best, script::logprob(before, best)});
    }
    output.sampled = s.sample;
    if (!s.sample) return output;
    output.token.token = model_.next(tokens, s.sampling->seed);
    output.token.logprob = script::logprob(tokens, output.token.token);
    return output;
  }

  script model_;
  std::uint32_t page_tokens_;
  std::vector<std::uint32_t> slots_;  // [page][slot]
  std::unordered_map<park_id, std::vector<std::uint32_t>> parked_;
};

}  // namespace quire::testing
