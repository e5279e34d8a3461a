#include "actors/engine.hpp"

#include <spdlog/spdlog.h>
#include <atomic>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <optional>

#include "actors/actor_set.hpp"

namespace quire {

namespace {

/// After the last request was told to go, how long its actors may take to say so.
constexpr std::chrono::seconds farewell{10};

class actor_engine final : public engine {
 public:
  actor_engine(const engine_options& options, parts& given)
      : config_(options.actors),
        system_(config_),
        card_(given.card),
        vocabulary_(given.vocabulary),
        chat_(given.chat),
        layout_(given.layout) {}

  result<void> spawn(const engine_options& options, parts& given) {
    auto set = spawn_actors(system_, options, given);
    if (!set) return tl::unexpected(set.error());
    actors_ = std::move(*set);
    return {};
  }

  ~actor_engine() override {
    if (!actors_) return;
    drain(std::chrono::milliseconds(0));
    caf::scoped_actor self(system_);
    self->send_exit(actors_->gateway, caf::exit_reason::user_shutdown);
    self->send_exit(actors_->batcher, caf::exit_reason::user_shutdown);
    self->send_exit(actors_->manager, caf::exit_reason::user_shutdown);
    self->send_exit(actors_->runner, caf::exit_reason::user_shutdown);
    self->wait_for(actors_->gateway, actors_->batcher, actors_->manager, actors_->runner);
    actors_.reset();
  }

  request_id submit(generation_request request,
                    std::shared_ptr<generation_listener> listener) override {
    const request_id id{++last_id_};
    caf::anon_send(actors_->gateway,
                   submission{id, std::move(request), std::move(listener), system_.clock().now()});
    return id;
  }

  void cancel(request_id id) override { caf::anon_send(actors_->gateway, cancel_request{id}); }

  void pause(request_id id) override { caf::anon_send(actors_->gateway, pause_request{id, true}); }
  void resume(request_id id) override {
    caf::anon_send(actors_->gateway, pause_request{id, false});
  }

  result<engine_status> status() override {
    caf::scoped_actor self(system_);
    const auto door = ask<gateway_status>(self, actors_->gateway);
    if (!door) return tl::unexpected(door.error());
    const auto cache = ask<cache_status>(self, actors_->manager);
    if (!cache) return tl::unexpected(cache.error());
    const auto batch = ask<batcher_status>(self, actors_->batcher);
    if (!batch) return tl::unexpected(batch.error());
    return join_status(*door, *cache, *batch, layout_);
  }

  result<void> check() override {
    caf::scoped_actor self(system_);
    const auto cache = ask<cache_status>(self, actors_->manager, check_request{});
    if (!cache) return tl::unexpected(cache.error());
    if (!cache->defect.empty()) return fail(errc::internal, cache->defect);
    return {};
  }

  bool drain(std::chrono::milliseconds timeout) override {
    if (wait_for_end(timeout)) return true;
    caf::anon_send(actors_->gateway, cancel_all{});
    if (!wait_for_end(farewell)) spdlog::error("requests did not end although they were cancelled");
    return false;
  }

  const model_card& card() const noexcept override { return card_; }
  const tokenizer& vocabulary() const noexcept override { return *vocabulary_; }
  const chat_template* chat() const noexcept override { return chat_.get(); }

 private:
  template <class Status, class Handle, class Question = status_request>
  result<Status> ask(caf::scoped_actor& self, const Handle& whom, Question question = {}) {
    result<Status> answer = fail(errc::unavailable, "the engine does not answer");
    self->request(whom, answer_timeout, question)
        .receive([&](Status& status) { answer = std::move(status); },
                 [&](const caf::error& why) {
                   answer = fail(errc::unavailable,
                                 "the engine does not answer: " + system_.render(why));
                 });
    return answer;
  }

  bool wait_for_end(std::chrono::milliseconds timeout) {
    caf::scoped_actor self(system_);
    bool ended = false;
    self->request(actors_->gateway, timeout, drain_request{})
        .receive([&](bool all) { ended = all; }, [](const caf::error&) {});
    return ended;
  }

  actor_config config_;
  caf::actor_system system_;
  model_card card_;
  std::shared_ptr<const tokenizer> vocabulary_;
  std::shared_ptr<const chat_template> chat_;
  kv_layout layout_;
  std::optional<actor_set> actors_;
  std::atomic<std::uint64_t> last_id_{0};
};

}  // namespace

result<std::unique_ptr<engine>> engine::start(const engine_options& options, parts given) {
  auto made = std::make_unique<actor_engine>(options, given);
  if (auto spawned = made->spawn(options, given); !spawned) return tl::unexpected(spawned.error());
  return made;
}

}  // namespace quire
