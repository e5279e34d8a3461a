#include "actors/forward_executor.hpp"

#include <malloc.h>

#include <spdlog/spdlog.h>
#include <algorithm>
#include <chrono>

#include "core/check.hpp"
#include "memory/page_park.hpp"
#include "models/decoder.hpp"

namespace quire {
namespace {

// Logits are made and consumed this many rows at a time, so that scoring a long prompt against a
// large vocabulary needs megabytes and not gigabytes: 64 rows x 262,144 x 4 bytes = 64 MiB.
constexpr std::size_t logit_rows = 64;

class phase_timer {
 public:
  // Returns the seconds since construction or the last lap.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> passed = now - begin_;
    begin_ = now;
    return passed.count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

class forward_executor final : public step_executor {
 public:
  forward_executor(std::unique_ptr<loaded_model> model, page_pool pool,
                   std::filesystem::path park_directory)
      : model_(std::move(model)),
        pool_(std::move(pool)),
        park_(pool_.layout().page_bytes, std::move(park_directory)),
        decoder_(model_->context, model_->config, model_->weights) {}

  std::vector<park_id> exchange(const page_exchange& orders) override {
    std::vector<park_id> failed;
    for (const park_id id : orders.drops) park_.drop(id);
    for (const park_order& order : orders.parks)
      if (auto done = park_.store(order, pool_); !done) {
        spdlog::warn("{}", done.error().message);
        failed.push_back(order.id);
      }
    for (const unpark_order& order : orders.unparks)
      if (auto done = park_.restore(order, pool_); !done) {
        spdlog::warn("{}", done.error().message);
        failed.push_back(order.id);
      }
    return failed;
  }

  result<step_result> run(const step_plan& plan) override {
    if (auto valid = check_plan(plan); !valid) return tl::unexpected(valid.error());
    const arena::hot hot(*model_->threads);
    phase_timer timer;
    step_result out;
    out.step = plan.step;
    pool_.apply(plan.copies);
    if (plan.trim_from_page) out.trimmed_bytes = pool_.trim(*plan.trim_from_page);
    if (plan.trim_from_page && plan.sequences.empty()) drop_scratch();
    out.timings.copy = timer.lap();
    if (plan.sequences.empty()) return out;
    gather(plan, out);
    const auto hidden =
        decoder_.forward({tokens_, sequences_, output_rows_}, pool_.data(), pool_.layout());
    out.timings.forward = timer.lap();
    for (std::size_t begin = 0; begin < jobs_.size(); begin += logit_rows) {
      const std::size_t n = std::min(logit_rows, jobs_.size() - begin);
      const std::size_t width = model_->config.width;
      logits_.resize(n * model_->config.vocabulary);
      decoder_.project(hidden.subspan(begin * width, n * width), n, logits_);
      out.timings.forward += timer.lap();
      model_->threads->parallel(n, [&](std::size_t i) { finish_row(jobs_[begin + i], i, out); });
      out.timings.sample += timer.lap();
    }
    return out;
  }

 private:
  // One row of logits to consume: a score, a sample, or both.
  struct row_job {
    const step_sequence* from = nullptr;
    std::size_t output = 0;
    std::size_t score = 0;  // index into from->score, or its size for none
    bool sample = false;
  };

  // Load has fallen: the buffers of large steps and what the heap keeps for reuse go too.
  void drop_scratch() {
    logits_ = {};
    decoder_.drop_scratch();
    malloc_trim(0);
  }

  result<void> check_plan(const step_plan& plan) const {
    for (const step_sequence& s : plan.sequences) {
      if (s.tokens.empty()) return fail(errc::internal, "a planned sequence has no tokens");
      const std::uint64_t end = s.first_position + s.tokens.size();
      if (end > std::uint64_t{pool_.layout().page_tokens} * s.table.size())
        return fail(errc::internal, "a block table is too short for its step");
      for (const token_id token : s.tokens)
        if (to_index(token) >= model_->config.vocabulary)
          return fail(errc::invalid_argument, "a token id is outside the vocabulary");
      for (const page_id page : s.table)
        if (to_index(page) >= pool_.max_pages())
          return fail(errc::internal, "a block table names a page outside the pool");
    }
    return {};
  }

  // Lays the plan's sequences out as consecutive rows and lists the rows whose logits are wanted.
  void gather(const step_plan& plan, step_result& out) {
    tokens_.clear();
    sequences_.clear();
    output_rows_.clear();
    jobs_.clear();
    for (const step_sequence& s : plan.sequences) {
      const auto first_row = static_cast<std::uint32_t>(tokens_.size());
      const auto num_tokens = static_cast<std::uint32_t>(s.tokens.size());
      sequences_.push_back({s.table, s.first_position, num_tokens, first_row});
      tokens_.insert(tokens_.end(), s.tokens.begin(), s.tokens.end());
      step_output output;
      output.sequence = s.sequence;
      output.sampled = s.sample;
      output.scores.resize(s.score.size());
      for (std::uint32_t row = 0; row < num_tokens; ++row) {
        const bool scored = row >= s.first_scored && row - s.first_scored < s.score.size();
        const bool sampled = s.sample && row + 1 == num_tokens;
        if (!scored && !sampled) continue;
        output_rows_.push_back(first_row + row);
        jobs_.push_back(
            {&s, out.outputs.size(), scored ? row - s.first_scored : s.score.size(), sampled});
      }
      out.outputs.push_back(std::move(output));
    }
  }

  void finish_row(const row_job& job, std::size_t row, step_result& out) {
    const std::size_t vocabulary = model_->config.vocabulary;
    const std::span<float> logits(logits_.data() + row * vocabulary, vocabulary);
    step_output& output = out.outputs[job.output];
    const step_sequence& s = *job.from;
    if (job.score < s.score.size()) {
      const token_id token = s.score[job.score];
      const token_id best = most_likely(logits);
      const float logprob = logprob_of(logits, token);
      output.scores[job.score] = {logprob, best,
                                  logprob + logits[to_index(best)] - logits[to_index(token)]};
    }
    if (!job.sample) return;
    static const std::vector<token_id> no_history;
    static const sampling_params defaults;
    output.token = sample(logits, s.sampling ? *s.sampling : defaults, s.sample_index,
                          s.prompt ? *s.prompt : no_history, s.output);
  }

  std::unique_ptr<loaded_model> model_;
  page_pool pool_;
  page_park park_;
  decoder decoder_;
  std::vector<token_id> tokens_;
  std::vector<attention_sequence> sequences_;
  std::vector<std::uint32_t> output_rows_;
  std::vector<row_job> jobs_;
  std::vector<float> logits_;  // (at most logit_rows, vocabulary)
};

}  // namespace

std::unique_ptr<step_executor> make_forward_executor(std::unique_ptr<loaded_model> model,
                                                     page_pool pool,
                                                     std::filesystem::path park_directory) {
  QUIRE_CHECK(model->context.threads == model->threads.get(),
              "the model computes on its own arena");
  return std::make_unique<forward_executor>(std::move(model), std::move(pool),
                                            std::move(park_directory));
}

}  // namespace quire
