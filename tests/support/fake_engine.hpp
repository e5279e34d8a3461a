// An engine for tests of the server: no model, a script per request, streamed from threads of its
// own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "actors/engine.hpp"
#include "models/chat_template.hpp"
#include "tests/support/byte_tokenizer.hpp"

namespace quire {

/// Runs `script` on a new thread for every request.
class fake_engine final : public engine {
 public:
  /// What a script sees of its request.
  class stream {
   public:
    stream(fake_engine& owner, request_id id, generation_request asked,
           std::shared_ptr<generation_listener> listener)
        : request(std::move(asked)), owner_(&owner), id_(id), listener_(std::move(listener)) {}

    void emit(generation_event event) { listener_->on_event(std::move(event)); }
    bool cancelled() const { return owner_->is_cancelled(id_); }
    /// Blocks until the request is cancelled or the engine goes down.
    void wait_for_cancel() { owner_->wait_for_cancel(id_); }

    generation_request request;

   private:
    fake_engine* owner_;
    request_id id_;
    std::shared_ptr<generation_listener> listener_;
  };
  using script = std::function<void(stream&)>;

  explicit fake_engine(script play) : play_(std::move(play)) {
    card_.id = "fake-model";
    card_.architecture = "script";
    card_.weights_type = "none";
    card_.context_tokens = 4096;
    card_.vocabulary_size = 258;
    card_.has_chat_template = true;
  }
  ~fake_engine() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
      changed_.notify_all();
    }
    for (auto& thread : threads_) thread.join();
  }

  request_id submit(generation_request request,
                    std::shared_ptr<generation_listener> listener) override {
    const std::lock_guard lock(mutex_);
    const auto id = request_id{++last_id_};
    requests_.push_back(request);
    ++num_playing_;
    threads_.emplace_back([this, id, asked = std::move(request), heard = std::move(listener)] {
      stream playing(*this, id, asked, heard);
      play_(playing);
      const std::lock_guard done(mutex_);
      --num_playing_;
      changed_.notify_all();
    });
    return id;
  }
  void cancel(request_id id) override {
    const std::lock_guard lock(mutex_);
    cancelled_[id] = true;
    changed_.notify_all();
  }
  void pause(request_id) override { ++pauses; }
  void resume(request_id) override { ++resumes; }

  result<engine_status> status() override {
    if (throw_from_status) throw std::runtime_error("secret");
    engine_status state;
    state.page_tokens = 16;
    state.total_pages = 64;
    state.store.used_pages = 16;
    state.store.free_pages = 48;
    state.counters = {{"steps", 7}};
    state.seconds = {{"forward", 0.5}};
    return state;
  }
  result<void> check() override {
    if (defect.empty()) return {};
    return fail(errc::internal, defect);
  }
  std::string defect;  ///< what check() finds

  bool drain(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    ++num_drains;
    num_drains.notify_all();
    return changed_.wait_for(lock, timeout, [&] { return num_playing_ == 0; });
  }
  const model_card& card() const noexcept override { return card_; }
  const tokenizer& vocabulary() const noexcept override { return vocabulary_; }
  const chat_template* chat() const noexcept override { return chat_ ? &*chat_ : nullptr; }

  /// What has been submitted so far.
  std::vector<generation_request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::size_t num_cancelled() {
    const std::lock_guard lock(mutex_);
    return cancelled_.size();
  }
  /// Waits until `count` requests have been cancelled; false after ten seconds.
  bool wait_for_cancels(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10),
                             [&] { return cancelled_.size() >= count; });
  }
  model_card& mutable_card() { return card_; }
  void set_template(std::string_view source) { chat_ = chat_template::parse(source).value(); }

  std::atomic<int> num_drains = 0;
  std::atomic<int> pauses = 0;
  std::atomic<int> resumes = 0;
  std::atomic<bool> throw_from_status = false;

 private:
  bool is_cancelled(request_id id) {
    const std::lock_guard lock(mutex_);
    return closing_ || cancelled_.contains(id);
  }
  void wait_for_cancel(request_id id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closing_ || cancelled_.contains(id); });
  }

  script play_;
  testing::byte_tokenizer vocabulary_;
  std::optional<chat_template> chat_;
  model_card card_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
  std::vector<generation_request> requests_;
  std::map<request_id, bool> cancelled_;
  std::uint64_t last_id_ = 0;
  std::size_t num_playing_ = 0;
  bool closing_ = false;
};

/// Streams these pieces to every choice, each piece one token of usage, then stops.
inline fake_engine::script say(std::vector<std::string> pieces, std::uint32_t prompt_tokens = 5) {
  return [pieces = std::move(pieces), prompt_tokens](fake_engine::stream& out) {
    out.emit(admitted_event{prompt_tokens});
    for (const auto& piece : pieces)
      for (std::uint32_t choice = 0; choice < out.request.num_choices; ++choice)
        out.emit(delta_event{choice, piece, {}});
    for (std::uint32_t choice = 0; choice < out.request.num_choices; ++choice) {
      generation_usage usage;
      usage.prompt_tokens = prompt_tokens;
      usage.completion_tokens = static_cast<std::uint32_t>(pieces.size());
      usage.cached_tokens = 2;
      out.emit(finished_event{choice, finish_reason::stop, usage});
    }
  };
}

}  // namespace quire
