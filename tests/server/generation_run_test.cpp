#include "server/generation_run.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/fake_engine.hpp"

using namespace quire;

TEST_CASE("events wait in order until they are taken", "[server]") {
  int wakes = 0;
  const auto inbox = std::make_shared<generation_inbox>([&] { ++wakes; });
  const auto listener = inbox->listener(3);
  listener->on_event(admitted_event{5});
  listener->on_event(delta_event{0, "a", {}});
  CHECK(wakes == 1);  // only the first finds the inbox empty
  const auto items = inbox->take();
  REQUIRE(items.size() == 2);
  CHECK(items[0].prompt == 3);
  CHECK(std::get<admitted_event>(items[0].event).prompt_tokens == 5);
  CHECK(std::get<delta_event>(items[1].event).text == "a");
  listener->on_event(delta_event{0, "b", {}});
  CHECK(wakes == 2);
}

TEST_CASE("a reader that lags gets larger pieces and loses nothing", "[server]") {
  const auto inbox = std::make_shared<generation_inbox>([] {});
  std::string expected[2];
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const auto choice = i % 2;
    const auto text = std::to_string(i) + " ";
    expected[choice] += text;
    inbox->put(0, delta_event{choice, text, {sampled_token{token_id{i}, 0.0f, {}}}});
  }
  inbox->put(0, finished_event{0, finish_reason::stop, {}});
  const auto items = inbox->take();
  CHECK(items.size() <= generation_inbox::max_queued + 1);
  std::string text[2];
  std::uint32_t next_token[2] = {0, 1};
  for (const auto& item : items) {
    const auto* delta = std::get_if<delta_event>(&item.event);
    if (delta == nullptr) continue;
    text[delta->choice] += delta->text;
    for (const auto& token : delta->tokens) {
      CHECK(to_index(token.token) == next_token[delta->choice]);
      next_token[delta->choice] += 2;
    }
  }
  CHECK(text[0] == expected[0]);
  CHECK(text[1] == expected[1]);
  CHECK(std::holds_alternative<finished_event>(items.back().event));
}

TEST_CASE("prompts and choices do not mix when pieces are joined", "[server]") {
  const auto inbox = std::make_shared<generation_inbox>([] {});
  for (std::size_t i = 0; i < generation_inbox::max_queued; ++i)
    inbox->put(0, delta_event{0, "x", {}});
  inbox->put(1, delta_event{0, "y", {}});
  inbox->put(1, delta_event{0, "z", {}});
  const auto items = inbox->take();
  REQUIRE(items.size() == generation_inbox::max_queued + 1);
  CHECK(items.back().prompt == 1);
  CHECK(std::get<delta_event>(items.back().event).text == "yz");
}

TEST_CASE("a closed inbox takes nothing and wakes nobody", "[server]") {
  int wakes = 0;
  const auto inbox = std::make_shared<generation_inbox>([&] { ++wakes; });
  const auto listener = inbox->listener(0);
  inbox->close();
  listener->on_event(admitted_event{1});
  CHECK(wakes == 0);
  CHECK(inbox->take().empty());
}

TEST_CASE("a full inbox wakes its connection once more", "[server]") {
  int wakes = 0;
  const auto inbox = std::make_shared<generation_inbox>([&] { ++wakes; });
  const std::string text(generation_inbox::max_held_bytes / 4, 'x');
  for (int i = 0; i < 8; ++i) inbox->put(0, delta_event{0, text, {}});
  CHECK(inbox->full());
  CHECK(wakes == 2);
  inbox->take();
  CHECK_FALSE(inbox->full());
}

TEST_CASE("requests whose reader lags are paused, and go on when it has caught up", "[server]") {
  fake_engine engine([](fake_engine::stream& stream) {
    const std::string text(generation_inbox::max_held_bytes, 'x');
    stream.emit(delta_event{0, text, {}});
    stream.wait_for_cancel();
  });
  std::atomic<int> wakes = 0;
  generation_run run(engine, [&] { ++wakes; });
  std::vector<generation_request> prompts(2);
  run.submit(std::move(prompts));
  while (wakes == 0) std::this_thread::yield();
  run.keep_pace();
  run.keep_pace();
  CHECK(engine.pauses == 2);
  CHECK(engine.resumes == 0);
  while (run.take().empty()) std::this_thread::yield();
  CHECK(engine.resumes == 2);
}
