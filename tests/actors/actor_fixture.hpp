// The engine's actors under CAF's test coordinator: one thread, virtual time, repeatable order.
// (caf/test/dsl.hpp reports to CAF's own test engine and does not mix with Catch2.)
#pragma once

#include <caf/actor_system.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/scoped_actor.hpp>
#include <random>

#include "actors/actor_set.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/recording_listener.hpp"
#include "tests/support/scripted_executor.hpp"

namespace quire::testing {

struct test_config : actor_config {
  test_config() : actor_config(actors_options{}) { set("scheduler.policy", caf::atom("testing")); }
};

class actor_fixture {
 public:
  struct sizes {
    std::uint32_t pages = 64;
    std::uint32_t page_tokens = 4;
    std::uint32_t context_tokens = 1024;
    script model{};
    engine_options options{};
    std::uint32_t budget_step_tokens = 512;
    park_ledger::limits park{16, 16};
  };

  explicit actor_fixture(sizes chosen)
      : system(config),
        scheduler(dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())),
        model(chosen.model) {
    engine::parts given;
    auto made = std::make_unique<scripted_executor>(chosen.model, chosen.pages, chosen.page_tokens);
    executor = made.get();
    given.executor = std::move(made);
    given.vocabulary = std::make_shared<byte_tokenizer>();
    given.card.context_tokens = chosen.context_tokens;
    given.layout.page_tokens = chosen.page_tokens;
    given.num_pages = chosen.pages;
    auto spawned = spawn_actors(system, chosen.options, given,
                                {false, chosen.budget_step_tokens, chosen.park});
    REQUIRE(spawned.has_value());
    actors = std::move(*spawned);
    run();
  }

  ~actor_fixture() {
    caf::anon_send(actors->gateway, cancel_all{});
    run();
    caf::anon_send_exit(actors->gateway, caf::exit_reason::user_shutdown);
    run();
    caf::anon_send_exit(actors->batcher, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(actors->manager, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(actors->runner, caf::exit_reason::user_shutdown);
    actors.reset();
    run();
  }

  /// Runs until nobody has anything to do without time passing.
  void run() { scheduler.run(); }
  /// Lets one actor handle its messages; false when there is nothing to do.
  bool run_once() { return scheduler.try_run_once(); }
  /// The same for an actor chosen at random.
  bool run_random(std::mt19937& random) {
    if (scheduler.jobs.empty()) return false;
    const auto at =
        std::uniform_int_distribution<std::size_t>(0, scheduler.jobs.size() - 1)(random);
    std::rotate(scheduler.jobs.begin(), scheduler.jobs.begin() + static_cast<std::ptrdiff_t>(at),
                scheduler.jobs.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    return scheduler.try_run_once();
  }
  void advance(std::chrono::milliseconds time) { scheduler.advance_time(time); }

  struct running {
    request_id id{};
    std::shared_ptr<recording_listener> listener;
    /// What the scripted model says to this prompt when it is alone.
    std::string alone;
  };
  running submit(generation_request asked) {
    running started{request_id{++last_id}, nullptr, {}};
    started.listener = std::make_shared<recording_listener>(std::max(asked.num_choices, 1u));
    const auto tokens = byte_tokenizer().encode(std::get<text_prompt>(asked.prompt).text, {});
    started.alone = expected_text(model, tokens, asked.sampling.seed, asked.max_tokens);
    caf::anon_send(actors->gateway, submission{started.id, std::move(asked), started.listener,
                                               system.clock().now()});
    return started;
  }
  running submit(std::string prompt, std::uint32_t max_tokens) {
    generation_request asked;
    asked.prompt = text_prompt{std::move(prompt)};
    asked.max_tokens = max_tokens;
    return submit(std::move(asked));
  }
  void pause(request_id id, bool paused) {
    caf::anon_send(actors->gateway, pause_request{id, paused});
  }
  void cancel(request_id id) { caf::anon_send(actors->gateway, cancel_request{id}); }

  /// The manager's status with all invariants verified.
  cache_status cache() { return ask<cache_status>(actors->manager, check_request{}); }
  gateway_status door() { return ask<gateway_status>(actors->gateway, status_request{}); }
  batcher_status batch() { return ask<batcher_status>(actors->batcher, status_request{}); }

  /// Verifies that nothing is left of any request but what the prefix index keeps.
  void require_all_returned() {
    const auto left = cache();
    REQUIRE(left.defect == "");
    REQUIRE(left.store.active_sequences == 0);
    REQUIRE(left.reserved_pages == 0);
    REQUIRE(left.waiting == 0);
    REQUIRE(left.store.used_pages == left.prefix.pages);
    REQUIRE(left.parked_memory_pages + left.parked_disk_pages == 0);
    REQUIRE(executor->num_parked() == 0);
    REQUIRE(batch().sequences == 0);
    REQUIRE(door().waiting + door().running == 0);
  }

  test_config config;
  caf::actor_system system;
  caf::scheduler::test_coordinator& scheduler;
  script model;
  scripted_executor* executor = nullptr;
  std::optional<actor_set> actors;
  std::uint64_t last_id = 0;

 private:
  template <class Answer, class Handle, class Question>
  Answer ask(const Handle& whom, Question question) {
    caf::scoped_actor self(system);
    auto pending = self->request(whom, answer_timeout, std::move(question));
    // Only as far as the answer: whoever asks in the middle of things stays there.
    while (self->mailbox().empty() && run_once()) continue;
    Answer answer;
    pending.receive([&](Answer& given) { answer = std::move(given); },
                    [&](const caf::error& why) { FAIL(system.render(why)); });
    return answer;
  }
};

}  // namespace quire::testing
