#include "actors/admission.hpp"

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {
const moment start = moment{} + 1h;
request_id req(std::uint64_t number) { return request_id{number}; }
}  // namespace

TEST_CASE("the queue takes so many requests and says when to come back", "[actors]") {
  admission door({.max_queued_requests = 3, .max_queued_tokens = 1000});
  for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(door.enter(req(i), start));
  const auto refused = door.enter(req(4), start);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::queue_full);
  CHECK(refused.error().numbers[0] == 1000);  // no experience yet: a second
  door.start(req(1), start);
  CHECK(door.enter(req(4), start));
  CHECK(door.refused() == 1);
}

TEST_CASE("the queue takes so many tokens, but any one request", "[actors]") {
  admission door({.max_queued_requests = 10, .max_queued_tokens = 1000});
  REQUIRE(door.enter(req(1), start));
  CHECK(door.weigh(req(1), 5000, start));
  REQUIRE(door.enter(req(2), start));
  const auto refused = door.weigh(req(2), 1, start);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::queue_full);
  CHECK(door.waiting() == 1);
  door.leave(req(1));
  CHECK(door.waiting_tokens() == 0);
  REQUIRE(door.enter(req(3), start));
  REQUIRE(door.enter(req(4), start));
  CHECK(door.weigh(req(3), 600, start));
  CHECK(door.weigh(req(4), 400, start));
  CHECK(door.waiting_tokens() == 1000);
}

TEST_CASE("a closed door lets nobody in", "[actors]") {
  admission door({});
  door.close();
  const auto refused = door.enter(req(1), start);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::unavailable);
}

TEST_CASE("the time to come back follows the speed of the queue", "[actors]") {
  admission door({.max_queued_requests = 1000});
  moment now = start;
  std::uint64_t id = 0;
  for (int i = 0; i < 600; ++i) {  // ten requests a second for a minute
    now += 100ms;
    REQUIRE(door.enter(req(++id), now));
    door.start(req(id), now);
  }
  for (int i = 0; i < 50; ++i) REQUIRE(door.enter(req(++id), now));
  CHECK(door.retry_after_ms(now) == Approx(5000).epsilon(0.1));
}
