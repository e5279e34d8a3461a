// The facade over real threads. No sleeps: listeners are waited for.
#include "actors/engine.hpp"

#include <thread>

#include "models/chat_template.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/recording_listener.hpp"
#include "tests/support/scripted_executor.hpp"

using namespace quire;
using namespace quire::testing;

namespace {

std::unique_ptr<engine> start(std::uint32_t pages, engine_options options = {}) {
  engine::parts given;
  given.executor = std::make_unique<scripted_executor>(script{}, pages, 4);
  given.vocabulary = std::make_shared<byte_tokenizer>();
  given.card.id = "scripted";
  given.card.context_tokens = 4096;
  given.layout.page_tokens = 4;
  given.num_pages = pages;
  auto started = engine::start(options, std::move(given));
  REQUIRE(started.has_value());
  return std::move(*started);
}

generation_request text_request(std::string prompt, std::uint32_t max_tokens) {
  generation_request asked;
  asked.prompt = text_prompt{std::move(prompt)};
  asked.max_tokens = max_tokens;
  return asked;
}

std::string alone(const std::string& prompt, std::uint32_t max_tokens) {
  return expected_text({}, byte_tokenizer().encode(prompt, {}), 0, max_tokens);
}

std::uint64_t counter(const engine_status& status, std::string_view name) {
  for (const auto& [known, value] : status.counters)
    if (known == name) return value;
  FAIL("no counter " << name);
  return 0;
}

}  // namespace

TEST_CASE("an engine answers many callers from many threads", "[actors]") {
  const auto engine = start(200);
  CHECK(engine->card().id == "scripted");
  CHECK(engine->chat() == nullptr);
  constexpr int callers = 4;
  constexpr int each = 40;
  std::vector<std::vector<std::shared_ptr<recording_listener>>> heard(callers);
  {
    std::vector<std::jthread> threads;
    for (std::size_t caller = 0; caller < callers; ++caller)
      threads.emplace_back([&, caller] {
        for (std::size_t i = 0; i < each; ++i) {
          heard[caller].push_back(std::make_shared<recording_listener>());
          engine->submit(text_request(std::string(i + 1, static_cast<char>('A' + caller)), 30),
                         heard[caller].back());
          if (i % 10 == 0) (void)engine->status();
        }
      });
  }
  for (std::size_t caller = 0; caller < callers; ++caller)
    for (std::size_t i = 0; i < each; ++i) {
      REQUIRE(heard[caller][i]->wait());
      CHECK(heard[caller][i]->text[0] ==
            alone(std::string(i + 1, static_cast<char>('A' + caller)), 30));
    }
  CHECK(engine->drain(std::chrono::seconds(10)));
  const auto status = engine->status();
  REQUIRE(status.has_value());
  CHECK(counter(*status, "finished") == callers * each);
  CHECK(counter(*status, "generated_tokens") == callers * each * 30);
  CHECK(status->requests_running + status->requests_waiting == 0);
  CHECK(status->reserved_pages == 0);
  CHECK(status->total_pages == 200);
}

TEST_CASE("cancelling from outside ends a request with what it had", "[actors]") {
  const auto engine = start(1000);
  const auto listener = std::make_shared<recording_listener>();
  const request_id id = engine->submit(text_request("abc", 3000), listener);
  REQUIRE(listener->wait_for_delta());
  engine->cancel(id);
  engine->cancel(request_id{12345});
  REQUIRE(listener->wait());
  CHECK(listener->finished.at(0).reason == finish_reason::cancelled);
  CHECK(alone("abc", 3000).starts_with(listener->text[0]));
}

TEST_CASE("draining cancels what does not finish in time, then refuses", "[actors]") {
  const auto engine = start(1000);
  const auto listener = std::make_shared<recording_listener>();
  engine->submit(text_request("abc", 4000), listener);
  REQUIRE(listener->wait_for_delta());
  engine->drain(std::chrono::milliseconds(0));
  CHECK(listener->ended());
  const auto late = std::make_shared<recording_listener>();
  engine->submit(text_request("abc", 4), late);
  REQUIRE(late->wait());
  CHECK(late->failed->code == errc::unavailable);
}

TEST_CASE("an engine that ends tells those who still wait", "[actors]") {
  for (int round = 0; round < 20; ++round) {
    auto engine = start(64);
    std::vector<std::shared_ptr<recording_listener>> heard;
    for (int i = 0; i < 10; ++i) {
      heard.push_back(std::make_shared<recording_listener>());
      engine->submit(text_request(std::string(20, 'a'), 200), heard.back());
    }
    if (round % 2 == 0) REQUIRE(heard[0]->wait_for_delta());
    engine.reset();
    for (const auto& listener : heard) CHECK(listener->ended());
  }
}

TEST_CASE("chat messages go through the template", "[actors]") {
  engine::parts given;
  given.executor = std::make_unique<scripted_executor>(script{}, 64, 4);
  given.vocabulary = std::make_shared<byte_tokenizer>();
  given.card.context_tokens = 256;
  given.layout.page_tokens = 4;
  given.num_pages = 64;
  auto parsed = chat_template::parse("[{{ messages[0].content }}]");
  REQUIRE(parsed.has_value());
  given.chat = std::make_shared<const chat_template>(std::move(*parsed));
  auto engine = engine::start({}, std::move(given));
  REQUIRE(engine.has_value());
  generation_request asked;
  asked.prompt = chat_prompt{{{"messages", {{{"role", "user"}, {"content", "hi"}}}}}};
  asked.max_tokens = 10;
  const auto listener = std::make_shared<recording_listener>();
  (*engine)->submit(std::move(asked), listener);
  REQUIRE(listener->wait());
  CHECK(listener->text[0] == alone("[hi]", 10));
}

TEST_CASE("sizes that cannot work are refused at the start", "[actors]") {
  engine::parts given;
  given.vocabulary = std::make_shared<byte_tokenizer>();
  CHECK(engine::start({}, std::move(given)).error().code == errc::invalid_argument);
}
