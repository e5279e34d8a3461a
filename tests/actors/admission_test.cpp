#include "actors/admission.hpp"

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {
const moment start = moment{} + 1h;
request_id req(std::uint64_t number) {
  return request_id{number};
}
}  // namespace

TEST_CASE("the queue takes so many requests and says when to come back", "[actors]") {
  admission door({.max_queued_requests = 3, .max_queued_tokens = 1000});
  for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(door.enter(req(i)));
  const auto refused = door.enter(req(4));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::queue_full);
  CHECK(door.come_back(refused.error(), start, std::nullopt).numbers[0] ==
        1000);  // no experience yet
  CHECK(door.come_back(refused.error(), start, 0.25).numbers[0] == 250);
  door.start(req(1), start);
  CHECK(door.enter(req(4)));
  CHECK(door.refused() == 1);
}

TEST_CASE("the queue takes so many tokens, but any one request", "[actors]") {
  admission door({.max_queued_requests = 10, .max_queued_tokens = 1000});
  REQUIRE(door.enter(req(1)));
  CHECK(door.weigh(req(1), 5000));
  REQUIRE(door.enter(req(2)));
  const auto refused = door.weigh(req(2), 1);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::queue_full);
  CHECK(door.waiting() == 1);
  door.leave(req(1));
  CHECK(door.waiting_tokens() == 0);
  REQUIRE(door.enter(req(3)));
  REQUIRE(door.enter(req(4)));
  CHECK(door.weigh(req(3), 600));
  CHECK(door.weigh(req(4), 400));
  CHECK(door.waiting_tokens() == 1000);
}

TEST_CASE("a closed door lets nobody in", "[actors]") {
  admission door({});
  door.close();
  const auto refused = door.enter(req(1));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::unavailable);
}

TEST_CASE("the time to come back is when there will be room for one", "[actors]") {
  admission door({.max_queued_requests = 50, .max_queued_tokens = 1000});
  moment now = start;
  std::uint64_t id = 0;
  for (int i = 0; i < 600; ++i) {  // ten requests a second for a minute
    now += 100ms;
    REQUIRE(door.enter(req(++id)));
    door.start(req(id), now);
  }
  for (int i = 0; i < 50; ++i) {
    REQUIRE(door.enter(req(++id)));
    REQUIRE(door.weigh(req(id), 20));
  }
  const auto refused = door.enter(req(++id));
  REQUIRE_FALSE(refused);
  CHECK(door.come_back(refused.error(), now, std::nullopt).numbers[0] == Approx(100).epsilon(0.1));

  door.leave(req(id - 1));
  REQUIRE(door.enter(req(id)));
  const auto heavy = door.weigh(req(id), 120);  // 100 too many: five of twenty must start
  REQUIRE_FALSE(heavy);
  const error told = door.come_back(heavy.error(), now, 0.05);
  CHECK(told.numbers[0] == Approx(450).epsilon(0.1));  // one soon, the others at their usual pace
  CHECK(told.message.find("try again in") != std::string::npos);
}
