// Remembers what a request's listener heard, checks the order of events, and can be waited for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "actors/generation.hpp"

namespace quire::testing {

class recording_listener final : public generation_listener {
 public:
  explicit recording_listener(std::uint32_t num_choices = 1) : expected_(num_choices) {}

  void on_event(generation_event event) noexcept override {
    const std::scoped_lock lock(mutex_);
    if (done()) out_of_order_ = true;
    if (const auto* a = std::get_if<admitted_event>(&event)) {
      out_of_order_ |= admitted.has_value() || !text.empty();
      admitted = *a;
    } else if (const auto* d = std::get_if<delta_event>(&event)) {
      out_of_order_ |= !admitted || finished.contains(d->choice);
      text[d->choice] += d->text;
      auto& all = tokens[d->choice];
      all.insert(all.end(), d->tokens.begin(), d->tokens.end());
      ++deltas;
      if (on_delta) on_delta();
    } else if (const auto* p = std::get_if<prompt_logprobs_event>(&event)) {
      prompt_logprobs = *p;
    } else if (const auto* f = std::get_if<finished_event>(&event)) {
      out_of_order_ |= finished.contains(f->choice);
      finished[f->choice] = *f;
    } else {
      failed = std::get<failed_event>(event).why;
    }
    changed_.notify_all();
  }

  /// Waits for the last event; false after a minute.
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), [this] { return done(); });
  }
  /// Waits for the first delta; false after a minute.
  bool wait_for_delta() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1),
                             [this] { return deltas > 0 || done(); });
  }
  bool ended() {
    const std::scoped_lock lock(mutex_);
    return done();
  }
  bool in_order() {
    const std::scoped_lock lock(mutex_);
    return !out_of_order_;
  }

  std::optional<admitted_event> admitted;
  std::map<std::uint32_t, std::string> text;
  std::map<std::uint32_t, std::vector<sampled_token>> tokens;
  std::optional<prompt_logprobs_event> prompt_logprobs;
  std::map<std::uint32_t, finished_event> finished;
  std::optional<error> failed;
  std::uint32_t deltas = 0;
  std::function<void()> on_delta;  ///< called under the lock

 private:
  bool done() const { return failed.has_value() || finished.size() == expected_; }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t expected_;
  bool out_of_order_ = false;
};

}  // namespace quire::testing
