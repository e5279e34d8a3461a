// Whole requests through all five actors, in virtual time.
#include <algorithm>

#include "tests/actors/actor_fixture.hpp"

using namespace quire;
using namespace quire::testing;
using namespace std::chrono_literals;

namespace {

std::string letters(std::size_t length, std::size_t first = 0) {
  std::string text;
  for (std::size_t i = 0; i < length; ++i) text += static_cast<char>('A' + (first + i * 7) % 26);
  return text;
}

generation_request text_request(std::string prompt, std::uint32_t max_tokens) {
  generation_request asked;
  asked.prompt = text_prompt{std::move(prompt)};
  asked.max_tokens = max_tokens;
  return asked;
}

}  // namespace

TEST_CASE("a request streams the model's text and says how it went", "[actors]") {
  actor_fixture engine({});
  const auto one = engine.submit("hello world", 20);
  engine.run();
  REQUIRE(one.listener->ended());
  CHECK(one.listener->in_order());
  CHECK(one.listener->admitted->prompt_tokens == 11);
  CHECK(one.listener->text[0] == one.alone);
  CHECK(one.listener->deltas == 20);
  const auto& end = one.listener->finished.at(0);
  CHECK(end.reason == finish_reason::length);
  CHECK(end.usage.prompt_tokens == 11);
  CHECK(end.usage.completion_tokens == 20);
  engine.require_all_returned();
  const auto batch = engine.batch();
  CHECK(batch.counts.steps == 20);
  CHECK(batch.counts.prefilled_tokens == 11);
  CHECK(batch.counts.generated_tokens == 20);
}

TEST_CASE("the model's end token ends the text with stop", "[actors]") {
  actor_fixture engine({.model = {.end_one_in = 6}});
  bool ended_early = false;
  for (int i = 0; i < 10; ++i) {
    const auto one = engine.submit("prompt " + std::to_string(i), 40);
    engine.run();
    CHECK(one.listener->text[0] == one.alone);
    if (one.alone.size() == 40) continue;
    ended_early = true;
    CHECK(one.listener->finished.at(0).reason == finish_reason::stop);
    CHECK(one.listener->finished.at(0).usage.completion_tokens == one.alone.size() + 1);
  }
  CHECK(ended_early);
  engine.require_all_returned();
}

TEST_CASE("a stop string ends the text before it", "[actors]") {
  actor_fixture engine({});
  auto asked = text_request("hello", 40);
  const auto whole = expected_text({}, byte_tokenizer().encode("hello", {}), 0, 40);
  asked.stop = {"never", whole.substr(10, 3)};
  const auto one = engine.submit(asked);
  engine.run();
  CHECK(one.listener->text[0] == whole.substr(0, whole.find(whole.substr(10, 3))));
  CHECK(one.listener->finished.at(0).reason == finish_reason::stop);
  engine.require_all_returned();
}

TEST_CASE("requests of many lengths in one batch say what each says alone", "[actors]") {
  actor_fixture engine({.pages = 512});
  std::vector<actor_fixture::running> all;
  for (std::uint32_t i = 0; i < 40; ++i) {
    all.push_back(engine.submit(letters(1 + i * 5, i), 1 + i * 3 % 40));
    for (std::uint32_t turns = 0; turns < i % 7; ++turns) engine.run_once();
  }
  engine.run();
  for (const auto& one : all) {
    REQUIRE(one.listener->ended());
    CHECK(one.listener->text[0] == one.alone);
  }
  engine.require_all_returned();
}

TEST_CASE("a long prompt is computed in chunks while others go on", "[actors]") {
  actor_fixture::sizes sizes{.pages = 512};
  sizes.options.scheduler.step_tokens = 64;
  actor_fixture engine(sizes);
  const auto early = engine.submit("early", 30);
  for (int i = 0; i < 40; ++i) engine.run_once();
  std::vector<std::uint32_t> chunks;
  std::size_t alone = 0;
  engine.executor->before_step = [&](const step_plan& plan) -> result<void> {
    for (const auto& s : plan.sequences)
      if (s.tokens.size() > 1) {
        chunks.push_back(static_cast<std::uint32_t>(s.tokens.size()));
        alone += plan.sequences.size() == 1 ? 1 : 0;
      }
    return {};
  };
  const auto late = engine.submit(letters(400), 5);
  engine.run();
  CHECK(chunks.size() >= 7);
  CHECK(*std::max_element(chunks.begin(), chunks.end()) <= 64);
  CHECK(alone == 0);
  CHECK(early.listener->text[0] == early.alone);
  CHECK(late.listener->text[0] == late.alone);
}

TEST_CASE("32 requests of 10 pages in a pool of 64 all finish as if alone", "[actors]") {
  actor_fixture engine({.pages = 64});
  std::vector<actor_fixture::running> all;
  for (std::uint32_t i = 0; i < 32; ++i) all.push_back(engine.submit(letters(20, i), 20));
  engine.run();
  std::vector<double> queued;
  for (const auto& one : all) {
    REQUIRE(one.listener->ended());
    REQUIRE_FALSE(one.listener->failed.has_value());
    CHECK(one.listener->text[0] == one.alone);
    queued.push_back(one.listener->finished.at(0).usage.queued_seconds);
  }
  CHECK(std::is_sorted(queued.begin(), queued.end()));
  const auto cache = engine.cache();
  CHECK(cache.counts.counter_offers > 0);
  CHECK(cache.counts.refusals == 0);
  CHECK(cache.counts.denied_leases == 0);
  engine.require_all_returned();
}

TEST_CASE("budgets grow while there is room, and nobody fails when there is none", "[actors]") {
  actor_fixture::sizes sizes{.pages = 64};
  sizes.budget_step_tokens = 16;
  actor_fixture engine(sizes);
  // Each may grow to 30 pages; the first budgets of all 8 fit, the last ones do not.
  std::vector<actor_fixture::running> all;
  for (std::uint32_t i = 0; i < 8; ++i) all.push_back(engine.submit(letters(10, i), 111));
  engine.run();
  for (const auto& one : all) {
    REQUIRE(one.listener->ended());
    REQUIRE_FALSE(one.listener->failed.has_value());
    CHECK(one.listener->text[0] == one.alone);
    CHECK(one.listener->finished.at(0).usage.completion_tokens == 111);
  }
  const auto counts = engine.cache().counts;
  CHECK(counts.extensions > 0);
  CHECK(counts.denied_extensions > 0);
  CHECK(counts.recomputes > 0);
  CHECK(counts.denied_leases == 0);
  engine.require_all_returned();
}

TEST_CASE("a request without a limit takes the whole pool when it is alone", "[actors]") {
  actor_fixture::sizes sizes{.pages = 40};
  sizes.budget_step_tokens = 16;
  actor_fixture engine(sizes);
  const auto one = engine.submit("hello", 0);
  engine.run();
  CHECK(one.listener->text[0] == expected_text({}, byte_tokenizer().encode("hello", {}), 0, 156));
  CHECK(one.listener->finished.at(0).reason == finish_reason::length);
  CHECK(engine.cache().counts.recomputes == 0);
}

TEST_CASE("what can never fit is refused with both numbers, and nothing else", "[actors]") {
  actor_fixture engine({.pages = 16, .context_tokens = 100});
  const auto too_big_for_pool = engine.submit(letters(40), 40);
  const auto too_big_for_context = engine.submit(letters(90), 11);
  const auto fits = engine.submit(letters(40), 20);
  engine.run();
  REQUIRE(too_big_for_pool.listener->failed.has_value());
  CHECK(too_big_for_pool.listener->failed->code == errc::context_length_exceeded);
  CHECK(too_big_for_pool.listener->failed->numbers == std::array<std::uint64_t, 2>{79, 64});
  CHECK_FALSE(too_big_for_pool.listener->admitted.has_value());
  REQUIRE(too_big_for_context.listener->failed.has_value());
  CHECK(too_big_for_context.listener->failed->numbers == std::array<std::uint64_t, 2>{101, 100});
  CHECK(fits.listener->text[0] == fits.alone);
  CHECK(engine.door().failed == 2);
  engine.require_all_returned();
}

TEST_CASE("a cancelled request's pages are free within one step", "[actors]") {
  actor_fixture::sizes sizes;
  sizes.options.kv.prefix_cache = false;
  actor_fixture engine(sizes);
  const auto one = engine.submit(letters(50), 150);
  while (one.listener->deltas < 5) REQUIRE(engine.run_once());
  const auto steps = engine.batch().counts.steps;
  engine.cancel(one.id);
  std::uint64_t steps_more = 0;
  engine.executor->before_step = [&](const step_plan& plan) -> result<void> {
    steps_more += plan.sequences.empty() ? 0 : 1;
    return {};
  };
  engine.run();
  CHECK(steps > 0);
  CHECK(steps_more <= 1);
  CHECK(one.listener->finished.at(0).reason == finish_reason::cancelled);
  CHECK(one.alone.starts_with(one.listener->text[0]));
  CHECK(engine.cache().store.used_pages == 0);
  CHECK(engine.door().cancelled == 1);
  engine.require_all_returned();
}

TEST_CASE("a waiting request can be cancelled and leaves the queue", "[actors]") {
  actor_fixture engine({.pages = 16});
  const auto runs = engine.submit(letters(30), 30);
  const auto waits = engine.submit(letters(30, 3), 30);
  const auto behind = engine.submit(letters(30, 5), 30);
  while (runs.listener->deltas == 0) REQUIRE(engine.run_once());
  CHECK(engine.cache().waiting >= 1);
  engine.cancel(waits.id);
  engine.run();
  CHECK(waits.listener->finished.at(0).reason == finish_reason::cancelled);
  CHECK(waits.listener->deltas == 0);
  CHECK(runs.listener->text[0] == runs.alone);
  CHECK(behind.listener->text[0] == behind.alone);
  engine.require_all_returned();
}

TEST_CASE("choices share the prompt, differ by their seed, and compute it once", "[actors]") {
  actor_fixture engine({.pages = 256});
  auto asked = text_request(letters(101), 12);
  asked.num_choices = 8;
  asked.sampling.seed = 40;
  const auto many = engine.submit(asked);
  std::uint64_t most_pages = 0;
  bool sampled = false;
  engine.executor->before_step = [&](const step_plan& plan) -> result<void> {
    for (const auto& s : plan.sequences) sampled |= s.sample;
    return {};
  };
  while (!sampled) {
    REQUIRE(engine.run_once());
    most_pages = engine.cache().store.used_pages;
  }
  CHECK(most_pages * 10 < 26 * 13);  // 26 pages are what one choice takes for 101 tokens
  engine.run();
  REQUIRE(many.listener->finished.size() == 8);
  CHECK(many.listener->in_order());
  std::set<std::string> texts;
  for (std::uint32_t choice = 0; choice < 8; ++choice) {
    const auto prompt = byte_tokenizer().encode(letters(101), {});
    CHECK(many.listener->text[choice] == expected_text({}, prompt, 40 + choice, 12));
    texts.insert(many.listener->text[choice]);
    CHECK(many.listener->finished.at(choice).usage.prompt_tokens == 101);
  }
  CHECK(texts.size() == 8);
  CHECK(engine.batch().counts.prefilled_tokens == 100 + 8);
  engine.require_all_returned();
}

TEST_CASE("choices of a one-token prompt need no common part", "[actors]") {
  actor_fixture engine({});
  auto asked = text_request("x", 9);
  asked.num_choices = 3;
  const auto many = engine.submit(asked);
  engine.run();
  for (std::uint32_t choice = 0; choice < 3; ++choice)
    CHECK(many.listener->text[choice] ==
          expected_text({}, byte_tokenizer().encode("x", {}), choice, 9));
  engine.require_all_returned();
}

TEST_CASE("a beginning that was computed before is not computed again", "[actors]") {
  actor_fixture engine({.pages = 256});
  const std::string system = letters(80);
  const auto first = engine.submit(system + "first question", 10);
  engine.run();
  const auto before = engine.batch().counts.prefilled_tokens;
  const auto second = engine.submit(system + "second question", 10);
  engine.run();
  CHECK(first.listener->finished.at(0).usage.cached_tokens == 0);
  CHECK(second.listener->finished.at(0).usage.cached_tokens == 80);
  CHECK(engine.batch().counts.prefilled_tokens - before == 15);
  CHECK(second.listener->text[0] == second.alone);
  engine.require_all_returned();
}

TEST_CASE("32 requests with one beginning that arrive together compute it once", "[actors]") {
  actor_fixture engine({.pages = 512});
  const std::string system = letters(200);
  std::vector<actor_fixture::running> all;
  for (int i = 0; i < 32; ++i) all.push_back(engine.submit(system + std::to_string(100 + i), 8));
  engine.run();
  for (const auto& one : all) CHECK(one.listener->text[0] == one.alone);
  CHECK(engine.batch().counts.prefilled_tokens == 200 + 32 * 3);
  CHECK(engine.cache().counts.cached_tokens == 31 * 200);
  engine.require_all_returned();
}

TEST_CASE("a request that wants no cache neither uses nor feeds it", "[actors]") {
  actor_fixture engine({.pages = 256});
  auto asked = text_request(letters(80), 10);
  asked.use_prefix_cache = false;
  for (int i = 0; i < 2; ++i) {
    const auto one = engine.submit(asked);
    engine.run();
    CHECK(one.listener->text[0] == one.alone);
    CHECK(one.listener->finished.at(0).usage.cached_tokens == 0);
  }
  CHECK(engine.cache().prefix.pages == 0);
}

TEST_CASE("a prompt is scored in order, over chunks, with and without a cache", "[actors]") {
  actor_fixture::sizes sizes{.pages = 256};
  sizes.options.scheduler.step_tokens = 16;
  actor_fixture engine(sizes);
  auto asked = text_request(letters(70), 0);
  const auto tokens = byte_tokenizer().encode(letters(70), {});
  asked.score_only = true;
  asked.prompt_logprobs_from = 30;
  for (const std::uint32_t cached : {0u, 28u}) {
    const auto one = engine.submit(asked);
    engine.run();
    REQUIRE(one.listener->prompt_logprobs.has_value());
    const auto& scored = *one.listener->prompt_logprobs;
    CHECK(scored.first_position == 30);
    REQUIRE(scored.entries.size() == 40);
    for (std::size_t i = 0; i < scored.entries.size(); ++i) {
      const auto before = std::span(tokens).first(30 + i);
      CHECK(scored.entries[i].token == tokens[30 + i]);
      CHECK(scored.entries[i].logprob == script::logprob(before, tokens[30 + i]));
      CHECK(scored.entries[i].best == script{}.next(before, 0));
      CHECK(scored.entries[i].best_logprob == script::logprob(before, scored.entries[i].best));
    }
    CHECK(one.listener->deltas == 0);
    CHECK(one.listener->finished.at(0).reason == finish_reason::length);
    CHECK(one.listener->finished.at(0).usage.completion_tokens == 0);
    CHECK(one.listener->finished.at(0).usage.cached_tokens == cached);
  }
  engine.require_all_returned();
}

TEST_CASE("a prompt can be scored and continued", "[actors]") {
  actor_fixture engine({});
  auto asked = text_request("abcdef", 6);
  asked.prompt_logprobs_from = 0;
  const auto one = engine.submit(asked);
  engine.run();
  REQUIRE(one.listener->prompt_logprobs.has_value());
  CHECK(one.listener->prompt_logprobs->first_position == 1);
  CHECK(one.listener->prompt_logprobs->entries.size() == 5);
  CHECK(one.listener->text[0] == one.alone);
}

TEST_CASE("a failing step fails its requests and no others", "[actors]") {
  actor_fixture engine({.pages = 256});
  const auto victim = engine.submit(letters(20), 30);
  while (victim.listener->deltas < 3) REQUIRE(engine.run_once());
  engine.executor->before_step = [&](const step_plan& plan) -> result<void> {
    if (plan.sequences.empty()) return {};
    engine.executor->before_step = nullptr;
    return fail(errc::internal, "the machine stumbled");
  };
  engine.run();
  REQUIRE(victim.listener->failed.has_value());
  CHECK(victim.listener->failed->message == "the machine stumbled");
  const auto next = engine.submit(letters(20), 30);
  engine.run();
  CHECK(next.listener->text[0] == next.alone);
  CHECK(engine.batch().counts.failed_steps == 1);
  engine.require_all_returned();
}

TEST_CASE("an executor that throws fails the step, not the engine", "[actors]") {
  actor_fixture engine({});
  engine.executor->before_step = [&](const step_plan&) -> result<void> {
    engine.executor->before_step = nullptr;
    throw std::runtime_error("boom");
  };
  const auto victim = engine.submit("abc", 5);
  engine.run();
  REQUIRE(victim.listener->failed.has_value());
  CHECK(victim.listener->failed->code == errc::internal);
  const auto next = engine.submit("abc", 5);
  engine.run();
  CHECK(next.listener->text[0] == next.alone);
}

TEST_CASE("a request past its deadline fails, running or waiting", "[actors]") {
  actor_fixture engine({.pages = 16});
  engine.executor->before_step = [&](const step_plan&) -> result<void> {
    engine.scheduler.clock().current_time += 10ms;  // a step takes 10 ms
    return {};
  };
  auto asked = text_request(letters(20), 40);
  const auto runs = engine.submit(asked);
  asked.deadline = 50ms;
  const auto waits = engine.submit(asked);
  while (runs.listener->deltas < 10) REQUIRE(engine.run_once());
  engine.advance(1ms);
  engine.run();
  REQUIRE(waits.listener->failed.has_value());
  CHECK(waits.listener->failed->code == errc::deadline_exceeded);
  CHECK(runs.listener->text[0] == runs.alone);
  engine.require_all_returned();
}

TEST_CASE("a full queue turns requests away and lets them in again", "[actors]") {
  actor_fixture::sizes sizes{.pages = 16};
  sizes.options.scheduler.max_queued_requests = 3;
  actor_fixture engine(sizes);
  std::vector<actor_fixture::running> all;
  for (std::uint32_t i = 0; i < 6; ++i) all.push_back(engine.submit(letters(30, i), 30));
  engine.run();
  std::size_t refused = 0;
  for (const auto& one : all) {
    REQUIRE(one.listener->ended());
    if (!one.listener->failed) {
      CHECK(one.listener->text[0] == one.alone);
      continue;
    }
    ++refused;
    CHECK(one.listener->failed->code == errc::queue_full);
    CHECK(one.listener->failed->numbers[0] > 0);
  }
  CHECK(refused == 3);
  const auto again = engine.submit(letters(30, 9), 30);
  engine.run();
  CHECK(again.listener->text[0] == again.alone);
  engine.require_all_returned();
}

TEST_CASE("draining lets the running finish and turns the new away", "[actors]") {
  actor_fixture engine({});
  const auto runs = engine.submit("abc", 20);
  while (runs.listener->deltas < 3) REQUIRE(engine.run_once());
  caf::scoped_actor self(engine.system);
  auto drained = self->request(engine.actors->gateway, answer_timeout, drain_request{});
  const auto late = engine.submit("late", 20);
  engine.run();
  bool all = false;
  drained.receive([&](bool ended) { all = ended; }, [](const caf::error&) {});
  CHECK(all);
  CHECK(runs.listener->text[0] == runs.alone);
  REQUIRE(late.listener->failed.has_value());
  CHECK(late.listener->failed->code == errc::unavailable);
}

TEST_CASE("tokens come with their log-probabilities when asked for", "[actors]") {
  actor_fixture engine({});
  auto asked = text_request("abc", 5);
  asked.sampling.logprobs = true;
  const auto one = engine.submit(asked);
  engine.run();
  REQUIRE(one.listener->tokens[0].size() == 5);
  auto history = byte_tokenizer().encode("abc", {});
  for (const auto& token : one.listener->tokens[0]) {
    CHECK(token.logprob == script::logprob(history, token.token));
    history.push_back(token.token);
  }
}

TEST_CASE("a caller who drops its listener leaves nothing behind", "[actors]") {
  actor_fixture engine({});
  auto one = engine.submit("abc", 20);
  const std::weak_ptr<recording_listener> watched = one.listener;
  one.listener.reset();
  engine.run();
  CHECK(watched.expired());
  engine.require_all_returned();
}
