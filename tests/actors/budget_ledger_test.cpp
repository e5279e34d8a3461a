#include "actors/budget_ledger.hpp"

#include <algorithm>
#include <random>

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;

std::vector<ticket_id> order(const budget_ledger& ledger) {
  std::vector<ticket_id> tickets;
  for (const auto& place : ledger.queue()) tickets.push_back(place.ticket);
  return tickets;
}

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

TEST_CASE("who came first is served first", "[actors]") {
  budget_ledger ledger({});
  ledger.enqueue(ticket_id{1}, 0, 4, start);
  ledger.enqueue(ticket_id{2}, 0, 4, start + 1ms);
  ledger.enqueue(ticket_id{3}, 0, 4, start + 1ms);
  CHECK(order(ledger) == std::vector{ticket_id{1}, ticket_id{2}, ticket_id{3}});
  CHECK(ledger.position(ticket_id{3}) == 3);
  CHECK(ledger.pages_until(ticket_id{2}) == 8);
  ledger.leave_queue(ticket_id{1});
  CHECK(ledger.position(ticket_id{3}) == 2);
  CHECK(ledger.position(ticket_id{1}) == 0);
}

TEST_CASE("priority is a head start that age makes up for", "[actors]") {
  budget_ledger ledger({.aging = 2000ms});
  ledger.enqueue(ticket_id{1}, 0, 1, start);
  ledger.enqueue(ticket_id{2}, 1, 1, start + 1999ms);
  ledger.enqueue(ticket_id{3}, 1, 1, start + 2001ms);
  ledger.enqueue(ticket_id{4}, -1, 1, start);
  CHECK(order(ledger) ==
        std::vector{ticket_id{2}, ticket_id{1}, ticket_id{3}, ticket_id{4}});
}

TEST_CASE("nobody is overtaken by those who come later than the head start", "[actors]") {
  std::mt19937 random(7);
  budget_ledger ledger({.aging = 100ms});
  struct arrival {
    ticket_id ticket;
    int priority;
    moment at;
  };
  std::vector<arrival> all;
  for (std::uint64_t i = 1; i <= 500; ++i) {
    const arrival next{ticket_id{i}, static_cast<int>(random() % 5), start + i * 10ms};
    ledger.enqueue(next.ticket, next.priority, 1, next.at);
    all.push_back(next);
  }
  for (const auto& early : all)
    for (const auto& late : all)
      if (late.at > early.at + 4 * 100ms) {
        REQUIRE(ledger.position(early.ticket) < ledger.position(late.ticket));
        break;
      }
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
