// Random orders of messages, random cancels, deaths and failures: whatever happens, every request
// is answered, every text is right and every page comes back.
#include <spdlog/spdlog.h>
#include <algorithm>
#include "tests/actors/actor_fixture.hpp"

using namespace quire;
using namespace quire::testing;
using namespace std::chrono_literals;

namespace {

std::string random_prompt(std::mt19937& random) {
  // Few beginnings, so that pages are shared.
  std::string text(1 + random() % 40, static_cast<char>('A' + random() % 3));
  for (std::size_t i = random() % 6; i > 0; --i) text += static_cast<char>('0' + random() % 10);
  return text;
}

struct chaos {
  bool cancels = false;
  bool failures = false;
  bool deaths = false;
  bool slow_readers = false;
};

void run_schedule(std::uint32_t seed, std::uint32_t num_requests, chaos allowed) {
  std::mt19937 random(seed);
  spdlog::set_level(spdlog::level::off);  // failures are wanted here
  actor_fixture::sizes sizes{.pages = 40, .model = {.end_one_in = 40}};
  sizes.budget_step_tokens = seed % 2 == 0 ? 512 : 5;  // budgets that must grow, and give way
  // Room to park for some, for a few, for nobody.
  sizes.park = seed % 3 == 0 ? park_ledger::limits{0, 0} : park_ledger::limits{seed % 3 * 8, 8};
  sizes.options.scheduler.step_tokens = 24;
  sizes.options.scheduler.max_streams = 6;
  actor_fixture engine(sizes);
  if (allowed.failures)
    engine.executor->before_step = [&](const step_plan&) -> result<void> {
      if (random() % 60 == 0) return fail(errc::internal, "a random failure");
      return {};
    };
  if (allowed.failures)
    engine.executor->before_exchange = [&](park_id) { return random() % 10 != 0; };
  std::vector<actor_fixture::running> all;
  std::vector<std::uint32_t> choices;
  std::uint64_t turns = 0;
  while (all.size() < num_requests || engine.scheduler.has_job()) {
    if (all.size() < num_requests && random() % 20 == 0) {
      generation_request asked;
      asked.prompt = text_prompt{random_prompt(random)};
      asked.max_tokens = static_cast<std::uint32_t>(1 + random() % 30);
      asked.sampling.seed = random() % 100;
      asked.num_choices = random() % 5 == 0 ? static_cast<std::uint32_t>(2 + random() % 2) : 1;
      asked.priority = static_cast<int>(random() % 3);
      choices.push_back(asked.num_choices);
      all.push_back(engine.submit(std::move(asked)));
    }
    if (allowed.cancels && !all.empty() && random() % 100 == 0)
      engine.cancel(all[random() % all.size()].id);
    if (allowed.slow_readers && !all.empty() && random() % 60 == 0)
      engine.pause(all[random() % all.size()].id, random() % 3 != 0);
    if (allowed.deaths && random() % 200 == 0 && engine.scheduler.has_job())
      if (auto* victim = dynamic_cast<request_actor::stateful_base<request_state>*>(
              &engine.scheduler.next_job<caf::resumable>()))
        caf::anon_send_exit(victim, caf::exit_reason::kill);
    engine.run_random(random);
    if (random() % 500 == 0) engine.advance(random() % 4 == 0 ? 25ms : 3ms);
    REQUIRE(++turns < 200000);
  }
  // Every reader catches up in the end; whoever is asked to yield may be late with the answer.
  while (true) {
    engine.run();
    for (const auto& one : all) engine.pause(one.id, false);
    engine.run();
    if (std::all_of(all.begin(), all.end(), [](const auto& one) { return one.listener->ended(); }))
      break;
    engine.advance(25ms);
    REQUIRE(++turns < 210000);
  }
  INFO("seed " << seed);
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto& heard = *all[i].listener;
    REQUIRE(heard.ended());
    REQUIRE(heard.in_order());
    if (heard.failed) {
      REQUIRE((allowed.failures || allowed.deaths));
      continue;
    }
    REQUIRE(heard.finished.size() == choices[i]);
    if (heard.finished.at(0).reason == finish_reason::cancelled)
      REQUIRE(all[i].alone.starts_with(heard.text[0]));
    else
      REQUIRE(heard.text[0] == all[i].alone);
  }
  engine.require_all_returned();
}

}  // namespace

// ctest runs the long form as its own, slow test.
#ifdef QUIRE_SLOW_TESTS
constexpr std::uint32_t many = 4000;
#else
constexpr std::uint32_t many = 250;
#endif

TEST_CASE("any order of messages gives the same texts", "[actors]") {
  for (std::uint32_t seed = 1; seed <= many; ++seed) run_schedule(seed, 25, {});
}

TEST_CASE("200 random requests with random cancels leave nothing behind", "[actors]") {
  for (std::uint32_t seed = 1; seed <= many / 8; ++seed)
    run_schedule(10000 + seed, 200, {.cancels = true});
}

TEST_CASE("slow readers stop nobody and miss nothing", "[actors]") {
  for (std::uint32_t seed = 1; seed <= many / 2; ++seed)
    run_schedule(30000 + seed, 30, {.cancels = true, .slow_readers = true});
}

TEST_CASE("failing steps and dying request actors leave nothing behind", "[actors]") {
  for (std::uint32_t seed = 1; seed <= many; ++seed)
    run_schedule(
        20000 + seed, 30,
        {.cancels = true, .failures = true, .deaths = true, .slow_readers = seed % 4 == 0});
}
