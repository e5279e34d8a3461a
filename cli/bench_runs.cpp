#include "cli/bench_runs.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>

namespace quire::cli {
namespace {

using clock = std::chrono::steady_clock;

double seconds_between(clock::time_point from, clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double rate(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0.0;
}

/// Counts the requests of one run that are not over yet.
class countdown {
 public:
  explicit countdown(std::size_t count) : count_(count) {}
  void done() noexcept {
    const std::lock_guard lock(mutex_);
    if (--count_ == 0) finished_.notify_one();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable finished_;
  std::size_t count_;
};

/// Notes when text came and how the request ended.
class stopwatch final : public generation_listener {
 public:
  explicit stopwatch(std::shared_ptr<countdown> open) : open_(std::move(open)) {}

  void on_event(generation_event event) noexcept override {
    if (std::holds_alternative<delta_event>(event)) {
      deltas_.push_back(clock::now());
    } else if (const auto* finished = std::get_if<finished_event>(&event)) {
      usage_ = finished->usage;
      reason_ = finished->reason;
      open_->done();
    } else if (auto* failed = std::get_if<failed_event>(&event)) {
      why_ = std::move(failed->why);
      open_->done();
    }
  }

  // Only read after the countdown.
  generation_usage usage_;
  finish_reason reason_ = finish_reason::stop;
  std::optional<error> why_;
  std::vector<clock::time_point> deltas_;

 private:
  std::shared_ptr<countdown> open_;
};

}  // namespace

struct bench_runner::request_result {
  clock::time_point submitted;
  generation_usage usage;
  std::vector<clock::time_point> deltas;

  clock::time_point first_token() const { return submitted + seconds(usage.first_token_seconds); }
  clock::time_point end() const { return submitted + seconds(usage.total_seconds); }

  /// Output tokens that came after `when`. Text comes in deltas of one token, rarely more.
  double tokens_after(clock::time_point when) const {
    if (deltas.empty()) return 0;
    const auto later = std::ranges::count_if(deltas, [&](auto at) { return at > when; });
    return static_cast<double>(usage.completion_tokens) * static_cast<double>(later) /
           static_cast<double>(deltas.size());
  }

 private:
  static clock::duration seconds(double value) {
    return std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(value));
  }
};

result<std::vector<bench_runner::request_result>> bench_runner::run(
    std::vector<std::vector<token_id>> prompts, std::uint32_t max_tokens, bool use_prefix_cache) {
  const auto open = std::make_shared<countdown>(prompts.size());
  std::vector<std::shared_ptr<stopwatch>> watches;
  std::vector<request_result> results;
  for (std::vector<token_id>& prompt : prompts) {
    generation_request request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    request.use_prefix_cache = use_prefix_cache;
    request.sampling.temperature = 0;
    watches.push_back(std::make_shared<stopwatch>(open));
    results.emplace_back().submitted = clock::now();
    const request_id id = engine_.submit(std::move(request), watches.back());
    const std::lock_guard lock(mutex_);
    running_.push_back(id);
    if (cancelled_) engine_.cancel(id);
  }
  open->wait();
  {
    const std::lock_guard lock(mutex_);
    running_.clear();
  }
  for (std::size_t i = 0; i < watches.size(); ++i) {
    if (watches[i]->why_) return tl::unexpected(*watches[i]->why_);
    if (watches[i]->reason_ == finish_reason::cancelled)
      return fail(errc::cancelled, "interrupted");
    results[i].usage = watches[i]->usage_;
    results[i].deltas = std::move(watches[i]->deltas_);
  }
  return results;
}

void bench_runner::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (const request_id id : running_) engine_.cancel(id);
}

result<measurement> bench_runner::prefill(std::uint32_t tokens, std::uint32_t depth) {
  const std::vector<token_id> before = prompts_.prompt(depth);
  if (depth > 0)
    if (auto warm = run({before}, 1, true); !warm) return tl::unexpected(warm.error());
  const auto prompt =
      depth > 0 ? prompts_.prompt_after(before, depth + tokens) : prompts_.prompt(tokens);
  auto done = run({prompt}, 1, depth > 0);
  if (!done) return tl::unexpected(done.error());
  const generation_usage& usage = done->front().usage;
  const std::uint32_t computed = usage.prompt_tokens - usage.cached_tokens;
  return measurement{{"tok_s", rate(computed, usage.first_token_seconds)}};
}

result<measurement> bench_runner::decode(std::uint32_t tokens, std::uint32_t depth) {
  auto done = run({prompts_.prompt(std::max(depth, 1u))}, tokens + 1, false);
  if (!done) return tl::unexpected(done.error());
  const generation_usage& usage = done->front().usage;
  return measurement{{"tok_s", rate(usage.completion_tokens - 1.0,
                                    usage.total_seconds - usage.first_token_seconds)}};
}

result<measurement> bench_runner::streams(const streams_shape& shape) {
  const std::vector<token_id> prefix =
      shape.shared_prefix > 0 ? prompts_.prompt(shape.shared_prefix) : std::vector<token_id>{};
  std::vector<std::vector<token_id>> prompts;
  for (std::uint32_t i = 0; i < shape.streams; ++i)
    prompts.push_back(prefix.empty() ? prompts_.prompt(shape.prompt)
                                     : prompts_.prompt_after(prefix, shape.prompt));
  if (shape.warm)
    if (auto warm = run(prompts, 1, true); !warm) return tl::unexpected(warm.error());
  auto done = run(std::move(prompts), shape.gen, shape.warm || shape.shared_prefix > 0);
  if (!done) return tl::unexpected(done.error());

  const auto start = done->front().submitted;
  auto last_first = start;
  auto end = start;
  for (const request_result& request : *done) {
    last_first = std::max(last_first, request.first_token());
    end = std::max(end, request.end());
  }
  double prompt_tokens = 0;
  double output_tokens = 0;
  double decoded = 0;
  for (const request_result& request : *done) {
    prompt_tokens += request.usage.prompt_tokens;
    output_tokens += request.usage.completion_tokens;
    decoded += request.tokens_after(last_first);
  }
  const double seconds = seconds_between(start, end);
  return measurement{{"prefill_tok_s", rate(prompt_tokens, seconds_between(start, last_first))},
                     {"decode_tok_s", rate(decoded, seconds_between(last_first, end))},
                     {"total_tok_s", rate(prompt_tokens + output_tokens, seconds)},
                     {"seconds", seconds}};
}

void reset_peak_rss() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

double peak_rss_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib / 1024.0;
  }
  return 0;
}

}  // namespace quire::cli
