// A thousand requests on one engine with the default model: what those who wait cost, and what the
// engine itself costs beside the model.
#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "actors/engine.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_file.hpp"
#include "tests/support/recording_listener.hpp"

using namespace quire;
using namespace quire::testing;

namespace {

double resident_kib() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0, resident = 0;
  statm >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024.0;
}

engine_options options() {
  engine_options chosen;
  chosen.model.path = find_model(default_model_name)->string();
  return chosen;
}

generation_request request(std::uint32_t i, std::uint32_t prompt_tokens, std::uint32_t new_tokens) {
  generation_request asked;
  std::vector<token_id> prompt;
  for (std::uint32_t at = 0; at < prompt_tokens; ++at)
    prompt.push_back(token_id{1000 + (i * 7919 + at * 31) % 20000});
  asked.prompt = std::move(prompt);
  asked.max_tokens = new_tokens;
  asked.ignore_eos = true;
  return asked;
}

void finish(const std::vector<std::shared_ptr<recording_listener>>& all) {
  for (const auto& one : all) {
    for (int minutes = 0; minutes < 15 && !one->wait(); ++minutes) continue;
    REQUIRE(one->ended());
    REQUIRE_FALSE(one->failed.has_value());
  }
}

}  // namespace

TEST_CASE("a thousand streams all finish, and those that wait cost little", "[actors]") {
  INFO("the default model is fetched by ./dev test");
  REQUIRE(find_model(default_model_name).has_value());
  engine_options chosen = options();
  chosen.kv.pages = 64;  // most wait most of the time
  chosen.scheduler.max_queued_requests = 2000;
  auto served = engine::load(chosen);
  REQUIRE(served.has_value());
  std::vector<std::shared_ptr<recording_listener>> all;
  const auto submit = [&](std::uint32_t i, std::uint32_t new_tokens) {
    all.push_back(std::make_shared<recording_listener>());
    (*served)->submit(request(i, 40, new_tokens), all.back());
  };
  submit(0, 64 * 16 - 40);  // holds the whole pool once it has grown; all others wait behind others
  REQUIRE(all.front()->wait_for_delta());
  for (std::uint32_t i = 1; i <= 24; ++i) submit(i, 4);
  REQUIRE((*served)->status().has_value());
  const double before = resident_kib();
  constexpr std::uint32_t waiting = 1000;
  for (std::uint32_t i = 0; i < waiting; ++i) submit(100 + i, 2);
  std::uint32_t seen = 0;
  double most = before;
  for (int tries = 0; tries < 20; ++tries) {
    const auto status = (*served)->status();
    REQUIRE(status.has_value());
    seen = std::max(seen, status->requests_waiting);
    most = std::max(most, resident_kib());
  }
  CHECK(seen > 500);
  const double each = (most - before) / waiting;
  CHECK(each < 64);
  finish(all);
  WARN(fmt::format("{:.1f} KiB for each of {} that waited (at most {} at a time)", each, waiting,
                   seen));
}
