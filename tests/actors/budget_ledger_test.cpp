#include "actors/budget_ledger.hpp"

#include <algorithm>
#include <random>

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;

}  // namespace

TEST_CASE("the ledger adds up promises", "[actors]") {
  budget_ledger ledger({});
  ledger.promise(ticket_id{1}, 10);
  ledger.promise(ticket_id{2}, 5);
  CHECK(ledger.promised() == 15);
  ledger.promise(ticket_id{1}, 3);
  CHECK(ledger.promised() == 8);
  CHECK(ledger.promised(ticket_id{1}) == 3);
  ledger.drop(ticket_id{1});
  ledger.drop(ticket_id{1});
  CHECK(ledger.promised() == 5);
  CHECK(ledger.promised(ticket_id{1}) == 0);
}

TEST_CASE("an offer that nobody answers expires", "[actors]") {
  budget_ledger ledger({.offer_life = 5000ms});
  ledger.offer(ticket_id{1}, start);
  ledger.offer(ticket_id{2}, start + 1s);
  CHECK(ledger.expired(start + 4999ms).empty());
  CHECK(ledger.accept(ticket_id{2}));
  CHECK_FALSE(ledger.accept(ticket_id{2}));
  CHECK(ledger.expired(start + 10s) == std::vector{ticket_id{1}});
  ledger.drop(ticket_id{1});
  CHECK(ledger.open_offers() == 0);
  CHECK_FALSE(ledger.accept(ticket_id{1}));
}

TEST_CASE("the estimate of a wait follows the rate at which pages come back", "[actors]") {
  budget_ledger ledger({});
  CHECK_FALSE(ledger.time_until(100, start).has_value());
  moment now = start;
  for (int i = 0; i < 600; ++i) {  // 100 pages a second for a minute
    now += 100ms;
    ledger.returned(10, now);
  }
  const auto wait = ledger.time_until(200, now);
  REQUIRE(wait.has_value());
  CHECK(wait->count() == Approx(2000).epsilon(0.1));
}
