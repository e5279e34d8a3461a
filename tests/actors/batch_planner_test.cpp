#include "actors/batch_planner.hpp"

#include <map>
#include <random>

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;

sequence_id seq(std::uint64_t number) {
  return sequence_id{number};
}

std::uint32_t prompt_tokens(const std::vector<batch_planner::part>& parts) {
  std::uint32_t sum = 0;
  for (const auto& part : parts) sum += part.decode ? 0 : part.tokens;
  return sum;
}

}  // namespace

TEST_CASE("decodes come first and do not count against the prompt budget", "[actors]") {
  batch_planner planner(2000ms);
  planner.add(seq(1), 1, 0, start);
  REQUIRE(planner.advance(seq(1), 1));
  planner.add(seq(2), 1000, 0, start);
  const auto parts = planner.plan({.max_streams = 8, .step_tokens = 512});
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].decode);
  CHECK(parts[0].sequence == seq(1));
  CHECK(parts[1].tokens == 511);  // 512 rows with the decode
}

TEST_CASE("a long prompt leaves room for short ones", "[actors]") {
  batch_planner planner(2000ms);
  planner.add(seq(1), 4000, 0, start);
  planner.add(seq(2), 50, 0, start + 1ms);
  planner.add(seq(3), 60, 0, start + 2ms);
  const auto parts = planner.plan({.max_streams = 8, .step_tokens = 512});
  std::map<sequence_id, std::uint32_t> tokens;
  for (const auto& part : parts) tokens[part.sequence] = part.tokens;
  CHECK(tokens[seq(2)] == 50);
  CHECK(tokens[seq(3)] == 60);
  CHECK(tokens[seq(1)] == 512 - 110);
}

TEST_CASE("of equal prompts the first in line is finished first", "[actors]") {
  batch_planner planner(2000ms);
  planner.add(seq(1), 600, 0, start);
  planner.add(seq(2), 600, 0, start + 1ms);
  auto parts = planner.plan({.max_streams = 8, .step_tokens = 512});
  REQUIRE(parts.size() == 1);
  CHECK(parts[0].sequence == seq(1));
  CHECK(parts[0].tokens == 512);
  CHECK_FALSE(planner.advance(seq(1), 512));
  parts = planner.plan({.max_streams = 8, .step_tokens = 512});
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].tokens == 88);
  CHECK(parts[1].tokens == 424);
}

TEST_CASE("more decodes than streams take turns, and prompts get in", "[actors]") {
  batch_planner planner(2000ms);
  for (std::uint64_t i = 1; i <= 20; ++i) {
    planner.add(seq(i), 1, 0, start);
    planner.advance(seq(i), 1);
  }
  std::map<sequence_id, int> turns;
  for (int step = 0; step < 20; ++step) {
    const auto parts = planner.plan({.max_streams = 8, .step_tokens = 512});
    REQUIRE(parts.size() == 8);
    for (const auto& part : parts) ++turns[part.sequence];
  }
  for (const auto& [sequence, count] : turns) CHECK(count == 8);
  planner.add(seq(99), 40, 0, start);
  const auto parts = planner.plan({.max_streams = 8, .step_tokens = 512});
  CHECK(parts.size() == 8);
  CHECK(parts.back().sequence == seq(99));
  CHECK(parts.back().tokens == 40);
}

TEST_CASE("prompts get the smaller budget while somebody decodes", "[actors]") {
  batch_planner planner(2000ms);
  planner.add(seq(1), 1000, 0, start);
  CHECK(prompt_tokens(planner.plan({8, 512, 64})) == 512);
  planner.add(seq(2), 1, 0, start);
  planner.advance(seq(2), 1);
  CHECK(prompt_tokens(planner.plan({8, 512, 40})) == 40);
}

TEST_CASE("beside decodes a step has whole groups of rows where prompts can spare the rest",
          "[actors]") {
  batch_planner planner(2000ms);
  planner.add(seq(1), 1000, 0, start);
  for (std::uint64_t i = 2; i <= 21; ++i) {
    planner.add(seq(i), 1, 0, start);
    planner.advance(seq(i), 1);
  }
  CHECK(prompt_tokens(planner.plan({64, 512, 100})) == 96 - 20);
  CHECK(prompt_tokens(planner.plan({64, 512, 76})) == 96 - 20);
  CHECK(prompt_tokens(planner.plan({64, 512, 50})) == 64 - 20);
  CHECK(prompt_tokens(planner.plan({64, 512, 44})) == 64 - 20);
  // Less would not be worth computing.
  CHECK(prompt_tokens(planner.plan({64, 512, 43})) == 43);
  CHECK(prompt_tokens(planner.plan({64, 512, 32})) == 32);
}

TEST_CASE("every plan keeps its limits, repeats nobody and always advances", "[actors]") {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    batch_planner planner(2000ms);
    const step_limits limits{static_cast<std::uint32_t>(1 + random() % 10),
                             static_cast<std::uint32_t>(1 + random() % 300),
                             static_cast<std::uint32_t>(1 + random() % 100)};
    std::map<sequence_id, std::uint32_t> left;
    std::uint64_t last = 0;
    std::map<sequence_id, int> waited;
    for (int step = 0; step < 100; ++step) {
      if (random() % 3 == 0) {
        const auto tokens = static_cast<std::uint32_t>(1 + random() % 500);
        planner.add(seq(++last), tokens, static_cast<int>(random() % 3), start + step * 1ms);
        left[seq(last)] = tokens;
      }
      if (random() % 10 == 0 && last > 0) {
        const sequence_id gone = seq(1 + random() % last);
        planner.remove(gone);
        left.erase(gone);
        waited.erase(gone);
      }
      const auto parts = planner.plan(limits);
      REQUIRE(parts.empty() == left.empty());
      REQUIRE(parts.size() <= std::max(limits.max_streams, 1u));
      REQUIRE(prompt_tokens(parts) <= limits.step_tokens);
      std::map<sequence_id, int> seen;
      for (const auto& part : parts) {
        REQUIRE(++seen[part.sequence] == 1);
        REQUIRE(left.contains(part.sequence));
        REQUIRE(part.tokens > 0);
        REQUIRE(part.decode == (left[part.sequence] == 0));
        if (part.decode) continue;
        REQUIRE(part.tokens <= left[part.sequence]);
        left[part.sequence] -= part.tokens;
        REQUIRE(planner.advance(part.sequence, part.tokens) == (left[part.sequence] == 0));
      }
    }
  }
}

TEST_CASE("the speed of steps is learned from them", "[actors]") {
  step_speed speed;
  CHECK_FALSE(speed.prefill_tokens_within(0.05, 0).has_value());
  CHECK_FALSE(speed.forecast(100, 0, 1).has_value());
  for (int i = 0; i < 50; ++i) {
    speed.observe({16, 0, 0}, 0.020);          // a step of decodes: 20 ms
    speed.observe({16, 100, 0}, 0.020 + 0.1);  // 100 prompt tokens more: 1 ms each
  }
  CHECK(speed.prefill_tokens_within(0.050, 0).value() == Approx(30).margin(2));
  CHECK(speed.prefill_tokens_within(0.010, 0).value() == 0);
  CHECK(speed.forecast(200, 0, 5).value() == Approx(0.2 + 5 * 0.02).epsilon(0.05));
}

TEST_CASE("a prompt token costs more the more tokens stand before it", "[actors]") {
  // 1 ms a token, and 1 us for each token before it.
  const auto seconds = [](double tokens, double context) {
    return tokens * 1e-3 + tokens * (context + tokens / 2) * 1e-6;
  };
  step_speed speed;
  for (std::uint32_t context = 0; context < 4000; context += 64)
    speed.observe({0, 64, 64.0 * (context + 32.0)}, seconds(64, context));
  for (const double context : {0.0, 1000.0, 4000.0}) {
    const double tokens = speed.prefill_tokens_within(0.1, context).value();
    INFO("context " << context);
    CHECK(seconds(tokens, context) == Approx(0.1).epsilon(0.05));
  }
  speed.observe({1, 0, 0}, 0.020);
  CHECK(speed.forecast(2000, 1000, 0).value() == Approx(seconds(2000, 1000)).epsilon(0.05));
}

TEST_CASE("a user's many prompts do not stand before another's one", "[actors]") {
  batch_planner planner(2000ms);
  moment now = moment{} + 1h;
  for (std::uint64_t i = 1; i <= 50; ++i) planner.add(sequence_id{i}, 400, 0, now, "many");
  planner.plan({});
  planner.advance(sequence_id{1}, 256);
  planner.add(sequence_id{100}, 400, 0, now + 1s, "one");
  planner.advance(sequence_id{1}, 100);
  CHECK(planner.first_in_line() == sequence_id{100});
  bool found = false;
  for (const auto& part : planner.plan({}))
    if (part.sequence == sequence_id{100}) found = part.tokens >= 256;
  CHECK(found);
}

TEST_CASE("steps that take too long make the next ones shorter", "[actors]") {
  constexpr double allowed = 0.050;
  step_aim aim;
  const double before = aim.aim(allowed);
  CHECK(before > 0.5 * allowed);
  CHECK(before < 0.8 * allowed);
  // A step 20 ms late leaves room for one like it.
  aim.observe(0.028, 0.008, allowed);
  CHECK(aim.aim(allowed) + 0.020 < allowed);
  // Punctual steps make it fade, up to a limit.
  for (int i = 0; i < 1000; ++i) aim.observe(0.0081, 0.008, allowed);
  CHECK(aim.aim(allowed) > before);
  CHECK(aim.aim(allowed) < 0.8 * allowed);
  for (int i = 0; i < 100; ++i) aim.observe(1.0, 0.008, allowed);
  CHECK(aim.aim(allowed) > 0.2 * allowed);
  // A pause of a second, a debugger's or a neighbour's, does not slow prompts for longer than a
  // hundred steps.
  for (int i = 0; i < 100; ++i) aim.observe(0.0081, 0.008, allowed);
  CHECK(aim.aim(allowed) == Approx(before).epsilon(0.3));
  CHECK(aim.aim(allowed) > 0.6 * allowed);
}

TEST_CASE("a step's time is expected from what was learned", "[actors]") {
  step_speed speed;
  CHECK_FALSE(speed.expect({16, 0, 0}).has_value());
  speed.observe({16, 0, 0}, 0.020);
  CHECK(speed.expect({16, 0, 0}).value() == Approx(0.020));
  CHECK_FALSE(speed.expect({16, 100, 0}).has_value());
  for (int i = 0; i < 50; ++i) speed.observe({16, 100, 0}, 0.020 + 0.1);
  CHECK(speed.expect({16, 50, 0}).value() == Approx(0.07).epsilon(0.01));
  CHECK(speed.expect({0, 50, 0}).value() == Approx(0.05).epsilon(0.01));
}
