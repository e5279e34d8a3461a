#include "server/generation_run.hpp"

#include <iterator>
#include <utility>
#include <variant>

namespace quire {
namespace {

class prompt_listener final : public generation_listener {
 public:
  prompt_listener(std::shared_ptr<generation_inbox> inbox, std::size_t prompt)
      : inbox_(std::move(inbox)), prompt_(prompt) {}
  void on_event(generation_event event) noexcept override {
    inbox_->put(prompt_, std::move(event));
  }

 private:
  std::shared_ptr<generation_inbox> inbox_;
  std::size_t prompt_;
};

/// About what an event takes in memory and on the wire, besides a constant.
std::size_t bytes_of(const generation_event& event) {
  constexpr std::size_t bytes_per_token = 64;
  const auto* delta = std::get_if<delta_event>(&event);
  return delta == nullptr ? 0 : delta->text.size() + bytes_per_token * (1 + delta->tokens.size());
}

}  // namespace

std::shared_ptr<generation_listener> generation_inbox::listener(std::size_t prompt) {
  return std::make_shared<prompt_listener>(shared_from_this(), prompt);
}

void generation_inbox::put(std::size_t prompt, generation_event event) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  const bool was_full = held_bytes_ > max_held_bytes;
  held_bytes_ += bytes_of(event);
  const bool joined = items_.size() >= max_queued && coalesce(prompt, event);
  if (!joined) items_.push_back({prompt, std::move(event)});
  if (items_.size() == 1 || (!was_full && held_bytes_ > max_held_bytes)) wake_();
}

// A choice's events keep their order because its last event is the one that grows.
bool generation_inbox::coalesce(std::size_t prompt, generation_event& event) {
  auto* delta = std::get_if<delta_event>(&event);
  if (delta == nullptr) return false;
  for (auto held = items_.rbegin(); held != items_.rend(); ++held) {
    auto* earlier = std::get_if<delta_event>(&held->event);
    if (earlier == nullptr || held->prompt != prompt || earlier->choice != delta->choice) continue;
    earlier->text += delta->text;
    earlier->tokens.insert(earlier->tokens.end(), std::make_move_iterator(delta->tokens.begin()),
                           std::make_move_iterator(delta->tokens.end()));
    return true;
  }
  return false;
}

std::deque<generation_inbox::item> generation_inbox::take() {
  const std::lock_guard lock(mutex_);
  held_bytes_ = 0;
  return std::exchange(items_, {});
}

bool generation_inbox::full() const {
  const std::lock_guard lock(mutex_);
  return held_bytes_ > max_held_bytes;
}

void generation_inbox::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  items_.clear();
}

void generation_run::submit(std::vector<generation_request> prompts) {
  ids_.reserve(prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i)
    ids_.push_back(engine_->submit(std::move(prompts[i]), inbox_->listener(i)));
}

std::deque<generation_inbox::item> generation_run::take() {
  auto items = inbox_->take();
  keep_pace();
  return items;
}

void generation_run::keep_pace() {
  const bool full = inbox_->full();
  if (full == std::exchange(paused_, full)) return;
  for (const auto id : ids_) full ? engine_->pause(id) : engine_->resume(id);
}

void generation_run::cancel() {
  inbox_->close();
  for (const auto id : std::exchange(ids_, {})) engine_->cancel(id);
}

}  // namespace quire
