// Expectations: arithmetic on tokens and arrival times, as the head of fair_queue.hpp states them.
#include "actors/fair_queue.hpp"

#include <map>
#include <random>
#include <vector>

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;

std::vector<std::uint64_t> order(const fair_queue& queue) {
  std::vector<std::uint64_t> tickets;
  for (const auto& place : queue.line())
    tickets.push_back(static_cast<std::uint64_t>(place.ticket));
  return tickets;
}

fair_queue::entry entry(std::uint64_t ticket, std::string user, moment arrived, int priority = 0,
                        std::uint64_t tokens = 100) {
  return {ticket_id{ticket}, std::move(user), priority, arrived, tokens, 4, false};
}

}  // namespace

TEST_CASE("of one user, who came first is served first", "[actors]") {
  fair_queue queue({});
  queue.enqueue(entry(1, "a", start));
  queue.enqueue(entry(2, "a", start + 1ms));
  queue.enqueue(entry(3, "a", start + 1ms));
  CHECK(order(queue) == std::vector<std::uint64_t>{1, 2, 3});
  CHECK(queue.position(ticket_id{3}) == 3);
  CHECK(queue.pages_until(ticket_id{2}) == 8);
  queue.leave(ticket_id{1});
  CHECK(queue.position(ticket_id{3}) == 2);
  CHECK(queue.position(ticket_id{1}) == 0);
}

TEST_CASE("among a user's own, priority is a head start that age makes up for", "[actors]") {
  fair_queue queue({.aging = 2000ms});
  queue.enqueue(entry(1, "a", start));
  queue.enqueue(entry(2, "a", start + 1999ms, 1));
  queue.enqueue(entry(3, "a", start + 2001ms, 1));
  queue.enqueue(entry(4, "a", start, -1));
  CHECK(order(queue) == std::vector<std::uint64_t>{2, 1, 3, 4});
}

TEST_CASE("a thousand requests of one user do not stand before another's one", "[actors]") {
  fair_queue queue({});
  for (std::uint64_t i = 1; i <= 1000; ++i) queue.enqueue(entry(i, "many", start));
  for (std::uint64_t i = 1; i <= 10; ++i) queue.serve(ticket_id{i});
  queue.enqueue(entry(2000, "one", start + 10s));
  // The user who came back starts where service is: after the tenth, beside the eleventh.
  CHECK(queue.position(ticket_id{2000}) <= 2);
}

TEST_CASE("users with equal demand get equal tokens whatever their requests' sizes", "[actors]") {
  fair_queue queue({});
  std::uint64_t next = 0;
  std::map<std::uint64_t, std::pair<std::string, std::uint64_t>> about;
  const auto add = [&](const std::string& user, std::uint64_t tokens) {
    queue.enqueue(entry(++next, user, start, 0, tokens));
    about[next] = {user, tokens};
  };
  for (int i = 0; i < 1000; ++i) add("small", 50);
  for (int i = 0; i < 200; ++i) add("large", 400);
  std::map<std::string, std::uint64_t> got;
  for (int i = 0; i < 300; ++i) {
    const auto ticket = queue.line().begin()->ticket;
    const auto& [user, tokens] = about.at(static_cast<std::uint64_t>(ticket));
    got[user] += tokens;
    queue.serve(ticket);
    const auto apart =
        static_cast<std::int64_t>(got["small"]) - static_cast<std::int64_t>(got["large"]);
    REQUIRE(std::abs(apart) <= 450);  // one request of each
  }
}

TEST_CASE("a rest saves up no turns", "[actors]") {
  fair_queue queue({});
  for (std::uint64_t i = 1; i <= 100; ++i) queue.enqueue(entry(i, "steady", start));
  queue.enqueue(entry(500, "returning", start));
  queue.serve(ticket_id{500});
  for (std::uint64_t i = 1; i <= 90; ++i) queue.serve(ticket_id{i});
  for (std::uint64_t i = 600; i < 620; ++i) queue.enqueue(entry(i, "returning", start + 1h));
  std::vector<std::uint64_t> first = order(queue);
  first.resize(8);
  int returning = 0;
  for (const std::uint64_t ticket : first) returning += ticket >= 600;
  CHECK(returning >= 3);
  CHECK(returning <= 5);
}

TEST_CASE("what was given back is given again", "[actors]") {
  fair_queue queue({});
  for (std::uint64_t i = 1; i <= 3; ++i) queue.enqueue(entry(i, "a", start));
  for (std::uint64_t i = 11; i <= 13; ++i) queue.enqueue(entry(i, "b", start + 1ms));
  queue.serve(ticket_id{1});
  CHECK(queue.line().begin()->ticket == ticket_id{11});
  queue.charge("a", -100);  // its answer was much shorter than its budget
  CHECK(queue.line().begin()->ticket == ticket_id{2});
}

TEST_CASE("who had to give way comes before all that were not served yet", "[actors]") {
  fair_queue queue({});
  for (std::uint64_t i = 1; i <= 5; ++i) queue.enqueue(entry(i, "a", start));
  queue.serve(ticket_id{1});
  auto back = entry(1, "a", start + 1s);
  back.resumed = true;
  queue.enqueue(back);
  CHECK(queue.line().begin()->ticket == ticket_id{1});
  queue.serve(ticket_id{1});
  CHECK(queue.size() == 4);
}

TEST_CASE("random comings and goings keep each user's order and lose nobody", "[actors]") {
  std::mt19937 random(11);
  fair_queue queue({.aging = 100ms});
  std::map<std::uint64_t, std::pair<std::string, moment>> waiting;
  std::uint64_t next = 0;
  moment now = start;
  for (int round = 0; round < 5000; ++round) {
    now += 1ms;
    const std::string user(1, static_cast<char>('a' + random() % 5));
    if (random() % 2 == 0) {
      const int priority = static_cast<int>(random() % 3);
      queue.enqueue(entry(++next, user, now, priority, 1 + random() % 300));
      waiting[next] = {user, queue.counts_from(now, priority)};
    } else if (!waiting.empty()) {
      auto victim = waiting.begin();
      std::advance(victim, random() % waiting.size());
      switch (random() % 3) {
        case 0:
          queue.leave(ticket_id{victim->first});
          waiting.erase(victim);
          break;
        case 1:
          waiting.erase(static_cast<std::uint64_t>(queue.line().begin()->ticket));
          queue.serve(queue.line().begin()->ticket);
          break;
        default:
          queue.charge(user, static_cast<double>(random() % 400) - 200);
          break;
      }
    }
    REQUIRE(queue.size() == waiting.size());
    if (round % 50 != 0) continue;
    std::map<std::string, moment> last;
    for (const auto& place : queue.line()) {
      const auto& [owner, counts_from] = waiting.at(static_cast<std::uint64_t>(place.ticket));
      const auto [at, first] = last.try_emplace(owner, counts_from);
      REQUIRE((first || at->second <= counts_from));
      at->second = counts_from;
    }
  }
}
