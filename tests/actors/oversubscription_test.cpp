// The whole engine with the default model under four times the demand that its pool can hold.
// Expectation: what each request says when it is alone.
#include <fmt/format.h>

#include <chrono>

#include "actors/engine.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_file.hpp"
#include "tests/support/recording_listener.hpp"

using namespace quire;
using namespace quire::testing;

namespace {

constexpr std::uint32_t num_requests = 200;
constexpr std::uint32_t new_tokens = 33;
constexpr std::uint32_t pages_each = 4;  // 49 to 64 tokens: about 20 of prompt, 33 new

engine_options options(std::uint32_t pages) {
  engine_options chosen;
  chosen.model.path = find_model(default_model_name)->string();
  chosen.compute.batch_invariant = true;
  chosen.kv.pages = pages;
  chosen.kv.prefix_cache = false;
  chosen.kv.park_memory_mib = 4;  // so that some go to disk
  return chosen;
}

generation_request request(std::uint32_t i) {
  generation_request asked;
  asked.prompt = text_prompt{fmt::format(
      "Note {} of the harbour master, day {}: the ships that came in with the tide were", i,
      i * 7)};
  asked.max_tokens = new_tokens + i % 12;
  asked.sampling.temperature = 0;
  asked.ignore_eos = true;
  asked.priority = static_cast<int>(i % 3);  // those that come later displace others
  asked.user = std::to_string(i % 5);
  return asked;
}

std::uint64_t counter(const engine_status& status, std::string_view name) {
  for (const auto& [known, value] : status.counters)
    if (known == name) return value;
  FAIL("no counter " << name);
  return 0;
}

struct run_result {
  std::vector<std::string> texts;
  double tokens_per_second = 0;
};

run_result all_at_once(engine& served) {
  std::vector<std::shared_ptr<recording_listener>> heard;
  std::uint64_t tokens = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint32_t i = 0; i < num_requests; ++i) {
    heard.push_back(std::make_shared<recording_listener>());
    served.submit(request(i), heard.back());
    tokens += request(i).max_tokens;
  }
  run_result result;
  for (const auto& one : heard) {
    for (int minutes = 0; minutes < 10 && !one->wait(); ++minutes) continue;
    REQUIRE(one->ended());
    REQUIRE_FALSE(one->failed.has_value());
    REQUIRE(one->finished.at(0).reason == finish_reason::length);
    result.texts.push_back(one->text[0]);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  result.tokens_per_second = static_cast<double>(tokens) / took.count();
  return result;
}

}  // namespace

TEST_CASE("four times the demand that fits: all finish, with the texts that each has alone",
          "[actors]") {
  INFO("the default model is fetched by ./dev test");
  REQUIRE(find_model(default_model_name).has_value());
  run_result plenty;
  std::vector<std::string> alone;
  {
    auto roomy = engine::load(options(num_requests * (pages_each + 1)));
    REQUIRE(roomy.has_value());
    plenty = all_at_once(**roomy);
    for (std::uint32_t i = 0; i < num_requests; ++i) {
      const auto heard = std::make_shared<recording_listener>();
      (*roomy)->submit(request(i), heard);
      REQUIRE(heard->wait());
      alone.push_back(heard->text[0]);
    }
  }
  auto tight = engine::load(options(num_requests * pages_each / 4));
  REQUIRE(tight.has_value());
  const run_result short_of_pages = all_at_once(**tight);
  for (std::uint32_t i = 0; i < num_requests; ++i) {
    INFO("request " << i);
    REQUIRE(plenty.texts[i] == alone[i]);
    REQUIRE(short_of_pages.texts[i] == alone[i]);
  }
  (*tight)->drain(std::chrono::seconds(10));
  auto status = (*tight)->status();
  // The last step may still be on its way back.
  for (int tries = 0; tries < 1000 && status && status->store.used_pages > 0; ++tries)
    status = (*tight)->status();
  REQUIRE(status.has_value());
  CHECK(status->store.used_pages == 0);
  CHECK(status->parked_memory_pages + status->parked_disk_pages == 0);
  CHECK(counter(*status, "parks") > 0);
  CHECK(counter(*status, "resumes") > 0);
  CHECK(counter(*status, "failed") == 0);
  const double ratio = short_of_pages.tokens_per_second / plenty.tokens_per_second;
  WARN(
      fmt::format("{:.0f} tok/s short of pages, {:.0f} with plenty: {:.2f}; parks {} ({} to disk), "
                  "recomputes {}, silent {}",
                  short_of_pages.tokens_per_second, plenty.tokens_per_second, ratio,
                  counter(*status, "parks"), counter(*status, "parks_to_disk"),
                  counter(*status, "recomputes"), counter(*status, "silent_yields")));
}
