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

}  // namespace

std::shared_ptr<generation_listener> generation_inbox::listener(std::size_t prompt) {
  return std::make_shared<prompt_listener>(shared_from_this(), prompt);
}

void generation_inbox::put(std::size_t prompt, generation_event event) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  if (items_.size() >= max_queued && coalesce(prompt, event)) return;
  items_.push_back({prompt, std::move(event)});
  if (items_.size() == 1) wake_();
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
  return std::exchange(items_, {});
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

void generation_run::cancel() {
  inbox_->close();
  for (const auto id : std::exchange(ids_, {})) engine_->cancel(id);
}

}  // namespace quire
