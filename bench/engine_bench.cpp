// What the engine does to those who use it at once: the share of a step that is not the model's,
// and the gaps between tokens while a long prompt is computed beside them. For a quiet machine.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "actors/engine.hpp"

namespace quire {
namespace {

using clock_type = std::chrono::steady_clock;

class gap_listener final : public generation_listener {
 public:
  void on_event(generation_event event) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (std::holds_alternative<delta_event>(event)) told_.push_back(clock_type::now());
    ended_ |= std::holds_alternative<finished_event>(event) ||
              std::holds_alternative<failed_event>(event);
    if (const auto* failed = std::get_if<failed_event>(&event))
      fmt::print(stderr, "a request failed: {}\n", failed->why.message);
  }
  bool ended() {
    const std::scoped_lock lock(mutex_);
    return ended_;
  }
  std::size_t told() {
    const std::scoped_lock lock(mutex_);
    return told_.size();
  }
  /// Milliseconds between events that both lie in [from, to].
  void gaps(clock_type::time_point from, clock_type::time_point to, std::vector<double>& all) {
    const std::scoped_lock lock(mutex_);
    for (std::size_t i = 1; i < told_.size(); ++i)
      if (told_[i - 1] >= from && told_[i] <= to)
        all.push_back(std::chrono::duration<double, std::milli>(told_[i] - told_[i - 1]).count());
  }

 private:
  std::mutex mutex_;
  std::vector<clock_type::time_point> told_;
  bool ended_ = false;
};

double percentile(std::vector<double> all, double which) {
  std::sort(all.begin(), all.end());
  return all.at(static_cast<std::size_t>(which * static_cast<double>(all.size() - 1)));
}

generation_request words(std::uint32_t tokens, std::uint32_t salt, std::uint32_t new_tokens) {
  generation_request asked;
  std::vector<token_id> prompt;
  for (std::uint32_t i = 0; i < tokens; ++i)
    prompt.push_back(token_id{1000 + (salt * 7919 + i * 31) % 20000});
  asked.prompt = std::move(prompt);
  asked.max_tokens = new_tokens;
  asked.ignore_eos = true;
  asked.sampling.temperature = 0;
  return asked;
}

/// Sleeps until `done()`.
template <class Condition>
void await(Condition done) {
  while (!done()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

/// 64 streams, and who had the time.
void print_overhead(engine& served) {
  std::vector<std::shared_ptr<gap_listener>> streams;
  for (std::uint32_t i = 0; i < 64; ++i) {
    streams.push_back(std::make_shared<gap_listener>());
    served.submit(words(32, 1000 + i, 96), streams.back());
  }
  for (const auto& one : streams) await([&] { return one->ended(); });
  const auto status = served.status();
  if (!status) return;
  double inside = 0, planning = 0, messages = 0;
  for (const auto& [name, seconds] : status->seconds) {
    if (name == "planning")
      planning = seconds;
    else if (name == "transit")
      messages = seconds;
    else if (name != "idle")
      inside += seconds;
  }
  const double percent = 100 / (inside + planning + messages);
  fmt::print(
      "64 streams: {:.2f} % of the time outside the model runner (planning {:.2f}, messages "
      "{:.2f})\n",
      percent * (planning + messages), percent * planning, percent * messages);
}

/// 16 streams, and a prompt of 4,000 tokens that comes among them.
void print_gaps(engine& served, double step_time_ms) {
  std::vector<std::shared_ptr<gap_listener>> streams;
  std::vector<request_id> ids;
  for (std::uint32_t i = 0; i < 16; ++i) {
    streams.push_back(std::make_shared<gap_listener>());
    ids.push_back(served.submit(words(120, i + 1, 7000), streams.back()));
  }
  const auto progress = [&](std::size_t tokens) {
    await([&] {
      return std::all_of(streams.begin(), streams.end(),
                         [&](const auto& one) { return one->told() >= tokens || one->ended(); });
    });
  };
  progress(10);
  const auto quiet_from = clock_type::now();
  progress(210);
  const auto quiet_to = clock_type::now();
  const auto long_one = std::make_shared<gap_listener>();
  served.submit(words(4000, 99, 1), long_one);
  await([&] { return long_one->ended(); });
  const auto loud_to = clock_type::now();
  for (const request_id id : ids) served.cancel(id);
  std::vector<double> quiet, loud;
  for (const auto& one : streams) {
    one->gaps(quiet_from, quiet_to, quiet);
    one->gaps(quiet_to, loud_to, loud);
  }
  const double allowed = std::max(2 * percentile(quiet, 0.99), step_time_ms);
  fmt::print(
      "ms between tokens of 16 streams, p50 / p99 / most: undisturbed {:.1f} / {:.1f} / {:.1f}, "
      "beside a "
      "prompt of 4,000 tokens {:.1f} / {:.1f} / {:.1f} (aim of p99: {:.1f}); the prompt took "
      "{:.1f} s\n",
      percentile(quiet, 0.5), percentile(quiet, 0.99), percentile(quiet, 1.0),
      percentile(loud, 0.5), percentile(loud, 0.99), percentile(loud, 1.0), allowed,
      std::chrono::duration<double>(loud_to - quiet_to).count());
}

}  // namespace
}  // namespace quire

int main(int count, char** values) {
  if (count != 2) {
    fmt::print(stderr, "usage: quire_engine_bench MODEL.gguf\n");
    return 2;
  }
  quire::engine_options chosen;
  chosen.model.path = values[1];
  const auto served = quire::engine::load(chosen);
  if (!served) {
    fmt::print(stderr, "{}\n", served.error().message);
    return 1;
  }
  quire::print_overhead(**served);
  quire::print_gaps(**served, chosen.scheduler.step_time_ms);
  return 0;
}
