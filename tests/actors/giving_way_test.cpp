// Requests that wait for their readers, for pages and for time, with all the actors.
#include "tests/actors/actor_fixture.hpp"

using namespace quire;
using namespace quire::testing;
using namespace std::chrono_literals;

namespace {

void run_until_deltas(actor_fixture& engine, recording_listener& heard, std::uint32_t deltas) {
  while (heard.deltas < deltas) REQUIRE(engine.run_once());
}

}  // namespace

TEST_CASE("a slow reader's request stops, gives its pages up to others, and misses nothing",
          "[actors]") {
  actor_fixture engine({.pages = 8});
  const auto slow = engine.submit("slow reader", 20);  // may fill the pool: 8 pages of 4 tokens
  run_until_deltas(engine, *slow.listener, 3);
  engine.pause(slow.id, true);
  engine.run();
  const std::uint32_t told = slow.listener->deltas;
  CHECK(told <= 3 + 2);  // what was under way
  CHECK_FALSE(slow.listener->ended());
  CHECK(engine.cache().counts.parks == 0);  // nobody needs its pages

  const auto other = engine.submit("another", 12);
  engine.run();
  REQUIRE(other.listener->ended());
  CHECK(other.listener->text[0] == other.alone);
  CHECK(slow.listener->deltas == told);
  CHECK(engine.cache().counts.parks == 1);
  CHECK(engine.executor->num_parked() == 1);

  engine.pause(slow.id, false);
  engine.run();
  REQUIRE(slow.listener->ended());
  CHECK(slow.listener->text[0] == slow.alone);
  CHECK(engine.cache().counts.resumes == 1);
  CHECK(engine.cache().counts.recomputes == 0);
  engine.require_all_returned();
}

TEST_CASE("a reader that leaves while its request is parked leaves nothing behind", "[actors]") {
  actor_fixture engine({.pages = 8});
  const auto slow = engine.submit("slow reader", 20);
  run_until_deltas(engine, *slow.listener, 2);
  engine.pause(slow.id, true);
  engine.run();
  engine.submit("another", 12);
  engine.run();
  REQUIRE(engine.executor->num_parked() == 1);
  engine.cancel(slow.id);
  engine.run();
  CHECK(slow.listener->finished.at(0).reason == finish_reason::cancelled);
  engine.require_all_returned();
}

TEST_CASE("a request that arrives with a higher priority displaces a lower one", "[actors]") {
  actor_fixture engine({.pages = 8});
  generation_request asked;
  asked.prompt = text_prompt{"of no hurry"};
  asked.max_tokens = 20;
  asked.priority = -3;
  const auto low = engine.submit(asked);
  run_until_deltas(engine, *low.listener, 2);
  const auto high = engine.submit("in a hurry", 8);
  while (!high.listener->ended()) REQUIRE(engine.run_once());
  CHECK_FALSE(low.listener->ended());
  engine.run();
  CHECK(high.listener->text[0] == high.alone);
  CHECK(low.listener->text[0] == low.alone);
  CHECK(engine.cache().counts.reclaims >= 1);
  engine.require_all_returned();
}

TEST_CASE("a request asked to yield at the end of its part of a prompt comes back", "[actors]") {
  // The moment matters, so every moment is tried until the long prompt is past its part.
  std::uint64_t parks = 0;
  for (int moment = 0; moment < 60; ++moment) {
    INFO("after " << moment << " messages");
    actor_fixture engine({.pages = 160, .park = {400, 0}});
    generation_request asked;
    asked.prompt = text_prompt{"who is served first"};
    asked.max_tokens = 200;
    asked.priority = 5;
    const auto first = engine.submit(asked);
    run_until_deltas(engine, *first.listener, 1);
    const auto long_one =
        engine.submit(std::string(600, 'p'), 4);  // begins with half of its prompt
    for (int i = 0; i < moment; ++i) engine.run_once();
    asked.prompt = text_prompt{std::string(200, 'q')};
    asked.max_tokens = 20;
    const auto urgent = engine.submit(asked);
    engine.run();
    for (const auto* one : {&first, &long_one, &urgent}) {
      REQUIRE(one->listener->ended());
      CHECK(one->listener->text[0] == one->alone);
    }
    CHECK(engine.cache().counts.smaller_offers > 0);
    parks += engine.cache().counts.parks;
    engine.require_all_returned();
  }
  CHECK(parks > 0);
}

TEST_CASE("choices that cannot all be there at once come one after the other", "[actors]") {
  actor_fixture engine({.pages = 16});
  generation_request asked;
  asked.prompt = text_prompt{"many ways"};
  asked.max_tokens = 20;
  asked.num_choices = 9;  // 9 forks of 7 pages with 2 shared would take 47
  asked.sampling.seed = 5;
  const auto heard = engine.submit(asked).listener;
  engine.run();
  REQUIRE(heard->finished.size() == 9);
  CHECK(heard->in_order());
  const auto tokens = byte_tokenizer().encode("many ways", {});
  for (std::uint32_t choice = 0; choice < 9; ++choice)
    CHECK(heard->text[choice] == expected_text(engine.model, tokens, 5 + choice, 20));
  CHECK(engine.cache().counts.cached_tokens > 0);  // the prompt was computed once
  engine.require_all_returned();
}

TEST_CASE("a deadline that the engine's speed cannot meet is refused at once, with the figures",
          "[actors]") {
  actor_fixture engine({.pages = 200});
  engine.submit(std::string(40, 'w'), 20);  // the engine learns: 1 ms a step
  engine.run();
  generation_request asked;
  asked.prompt = text_prompt{"too much for the time"};
  asked.max_tokens = 500;
  asked.ignore_eos = true;
  asked.deadline = 100ms;
  const auto late = engine.submit(asked);
  engine.run();
  REQUIRE(late.listener->failed.has_value());
  CHECK(late.listener->failed->code == errc::deadline_exceeded);
  CHECK(late.listener->failed->message.find("deadline of 100 ms cannot be met") !=
        std::string::npos);
  asked.deadline = 2000ms;
  const auto early = engine.submit(asked);
  engine.run();
  CHECK(early.listener->text[0] == early.alone);
  engine.require_all_returned();
}
