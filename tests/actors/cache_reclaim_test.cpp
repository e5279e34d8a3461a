// Growing at others' cost, parking and coming back, as the accounts decide it.
#include "actors/cache_accounts.hpp"

#include <algorithm>

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;

struct pool {
  std::unique_ptr<cache_accounts> cache;
  std::uint64_t step = 0;

  explicit pool(std::uint32_t pages, park_ledger::limits park = {100, 100}) {
    cache_accounts::options chosen;
    chosen.park = park;
    chosen.prefix_cache = false;
    cache = *cache_accounts::make(pages, 4, chosen);
  }

  offer begin(std::uint32_t prompt_tokens, std::uint32_t new_tokens, moment now, int priority = 0) {
    const auto answer = cache->negotiate(terms(prompt_tokens, new_tokens, priority), now);
    REQUIRE(std::holds_alternative<offer>(answer));
    const offer made = std::get<offer>(answer);
    REQUIRE(cache->accept(made.ticket));
    run(made.sequence, prompt_tokens);
    return made;
  }
  static budget_terms terms(std::uint32_t prompt_tokens, std::uint32_t new_tokens,
                            int priority = 0) {
    budget_terms asked;
    asked.prompt = std::make_shared<const std::vector<token_id>>(prompt_tokens, token_id{7});
    asked.sequence_tokens = prompt_tokens + new_tokens - 1;
    asked.final_tokens = prompt_tokens + new_tokens - 1;
    asked.priority = priority;
    return asked;
  }
  step_pages run(sequence_id sequence, std::uint32_t tokens, std::vector<token_id> generated = {}) {
    const std::vector<lease_item> items{{sequence, tokens, std::move(generated)}};
    auto pages = cache->lease(++step, items);
    cache->end_step(step, {});
    REQUIRE(cache->check());
    return pages;
  }
  step_pages empty_step(step_end how = {}) {
    auto pages = cache->lease(++step, {});
    cache->end_step(step, how);
    REQUIRE(cache->check());
    return pages;
  }
  template <class What>
  std::vector<What> effects(moment now) {
    std::vector<What> found;
    for (const auto& effect : cache->serve(now))
      if (const auto* one = std::get_if<What>(&effect)) found.push_back(*one);
    return found;
  }
};

}  // namespace

TEST_CASE("who must grow has the latest asked, and goes on with its pages", "[actors]") {
  pool at(10);
  const offer first = at.begin(8, 5, start);         // 3 pages
  const offer second = at.begin(8, 5, start + 1ms);  // 3
  const offer third = at.begin(8, 5, start + 2ms);   // 3
  CHECK(at.cache->extend(first.sequence, 16, start + 3ms) == cache_accounts::growth::granted);
  CHECK(at.cache->extend(first.sequence, 24, start + 3ms) == cache_accounts::growth::waits);
  const auto asks = at.effects<yield_ask>(start + 3ms);
  REQUIRE(asks.size() == 1);
  CHECK(asks[0].sequence == third.sequence);
  CHECK(asks[0].until == start + 23ms);
  at.cache->yielded(third.sequence, yield_choice::park, 16, start + 4ms);
  REQUIRE(at.cache->has_page_work());
  const auto pages = at.empty_step();
  REQUIRE(pages.exchange.parks.size() == 1);
  CHECK(pages.exchange.parks[0].pages.size() == 2);  // 8 tokens were stored
  CHECK(pages.parked[0].sequence == third.sequence);
  const auto grown = at.effects<growth_answer>(start + 5ms);
  REQUIRE(grown.size() == 1);
  CHECK(grown[0].granted);
  CHECK(at.cache->parked().memory_pages() == 2);
  CHECK(at.cache->counters().parks == 1);

  // With room again, the parked request gets its pages back before it hears of an offer.
  at.cache->release(second.sequence, start + 6ms);
  at.cache->release(first.sequence, start + 6ms);
  CHECK(at.effects<offer>(start + 6ms).empty());
  const auto back = at.empty_step();
  REQUIRE(back.exchange.unparks.size() == 1);
  CHECK(back.exchange.unparks[0].id == pages.exchange.parks[0].id);
  const auto offers = at.effects<offer>(start + 7ms);
  REQUIRE(offers.size() == 1);
  CHECK(offers[0].ticket == third.ticket);
  CHECK(offers[0].cached_tokens == 8);
  CHECK(offers[0].sequence_tokens == 16);
  CHECK(at.cache->accept(offers[0].ticket));
  CHECK(at.cache->parked().memory_pages() == 0);
  const auto next = at.run(offers[0].sequence, 1, {token_id{9}});
  CHECK(next.grants[0].first_position == 8);
  CHECK(next.exchange.drops == std::vector{pages.exchange.parks[0].id});
}

TEST_CASE("silence is recompute", "[actors]") {
  pool at(6);
  const offer first = at.begin(8, 5, start);
  const offer second = at.begin(8, 5, start + 1ms);
  CHECK(at.cache->extend(first.sequence, 16, start + 2ms) == cache_accounts::growth::waits);
  REQUIRE(at.effects<yield_ask>(start + 2ms).size() == 1);
  CHECK(at.cache->next_deadline() == start + 22ms);
  CHECK(at.effects<taken_back>(start + 21ms).empty());
  const auto effects = at.cache->serve(start + 22ms);
  REQUIRE(effects.size() == 2);
  CHECK(std::get<taken_back>(effects[0]).sequence == second.sequence);
  CHECK(std::get<growth_answer>(effects[1]).granted);
  CHECK(at.cache->counters().silent_yields == 1);
}

TEST_CASE("who refuses is spared and the next is asked; with nobody left the answer is no",
          "[actors]") {
  pool at(9);
  at.begin(8, 5, start);
  const offer second = at.begin(8, 5, start + 1ms);
  const offer third = at.begin(8, 5, start + 2ms);
  CHECK(at.cache->extend(second.sequence, 16, start + 3ms) == cache_accounts::growth::waits);
  REQUIRE(at.effects<yield_ask>(start + 3ms)[0].sequence == third.sequence);
  at.cache->yielded(third.sequence, yield_choice::refuse, 0, start + 4ms);
  CHECK(
      at.effects<growth_answer>(start + 4ms).empty());  // the third said that it will be done soon
  const auto answers = at.effects<growth_answer>(start + 1100ms);
  REQUIRE(answers.size() == 1);
  CHECK_FALSE(answers[0].granted);
  CHECK(at.cache->counters().refused_yields == 1);
  CHECK(at.cache->extend(third.sequence, 16, start + 1101ms) == cache_accounts::growth::waits);
  const auto no = at.effects<growth_answer>(start + 1101ms);  // nobody counts from later
  REQUIRE(no.size() == 1);
  CHECK_FALSE(no[0].granted);
}

TEST_CASE("a higher priority that waits displaces a lower one, an equal one does not", "[actors]") {
  pool at(3);
  const offer low = at.begin(8, 5, start);
  CHECK(std::holds_alternative<counter_offer>(at.cache->negotiate(pool::terms(8, 5), start + 1ms)));
  CHECK(at.effects<yield_ask>(start + 1ms).empty());
  pool other(3);
  const offer lower = other.begin(8, 5, start, -1);
  CHECK(std::holds_alternative<counter_offer>(
      other.cache->negotiate(pool::terms(8, 5), start + 1ms)));
  const auto asks = other.effects<yield_ask>(start + 1ms);
  REQUIRE(asks.size() == 1);
  CHECK(asks[0].sequence == lower.sequence);
  CHECK(low.pages == 3);
}

TEST_CASE("parked pages go to disk when memory is full, and nowhere when both are", "[actors]") {
  pool at(9, {2, 2});
  const offer first = at.begin(8, 5, start);
  const offer second = at.begin(8, 5, start);
  const offer third = at.begin(8, 5, start);
  for (const offer& one : {first, second, third})
    at.cache->yielded(one.sequence, yield_choice::park, 16, start);
  const auto pages = at.empty_step();
  REQUIRE(pages.exchange.parks.size() == 2);
  CHECK(pages.exchange.parks[0].where == park_place::memory);
  CHECK(pages.exchange.parks[1].where == park_place::disk);
  const auto lost = at.effects<taken_back>(start);
  REQUIRE(lost.size() == 1);
  CHECK(lost[0].ticket == third.ticket);
  CHECK(at.cache->counters().park_overflows == 1);
  CHECK(at.cache->counters().parks_to_disk == 1);
}

TEST_CASE("a copy that could not be made or read is taken back", "[actors]") {
  for (const bool when_reading : {false, true}) {
    pool at(6);
    const offer first = at.begin(8, 5, start);
    at.cache->yielded(first.sequence, yield_choice::park, 16, start);
    const step_end failing{true, {}, {park_id{1}}};
    at.empty_step(when_reading ? step_end{} : failing);
    if (when_reading) {
      CHECK(at.effects<taken_back>(start).empty());
      at.empty_step(failing);
    }
    const auto lost = at.effects<taken_back>(start);
    REQUIRE(lost.size() == 1);
    CHECK(lost[0].ticket == first.ticket);
    CHECK_FALSE(lost[0].sequence.has_value());
    CHECK(at.cache->parked().memory_pages() == 0);
    CHECK(at.cache->store().free_pages() == 6);
    CHECK(at.cache->counters().failed_parks == 1);
  }
}

TEST_CASE("a slow reader yields first and comes back when it reads again", "[actors]") {
  pool at(6);
  const offer slow = at.begin(8, 5, start);
  const offer later = at.begin(8, 5, start + 1ms);
  at.cache->hold(slow.ticket, true);
  // Even for one that counts from later and only waits to start.
  CHECK(std::holds_alternative<counter_offer>(at.cache->negotiate(pool::terms(8, 5), start + 2ms)));
  const auto asks = at.effects<yield_ask>(start + 2ms);
  REQUIRE(asks.size() == 1);
  CHECK(asks[0].sequence == slow.sequence);
  at.cache->yielded(slow.sequence, yield_choice::park, 12, start + 3ms);
  at.empty_step();
  CHECK(at.effects<offer>(start + 3ms).size() == 1);
  at.cache->release(later.sequence, start + 4ms);
  at.effects<offer>(start + 4ms);
  CHECK_FALSE(at.cache->has_page_work());  // there is room, but nobody reads
  at.cache->hold(slow.ticket, false);
  at.effects<offer>(start + 5ms);
  CHECK(at.cache->has_page_work());
}

TEST_CASE("a smaller first budget is offered when the whole is not there", "[actors]") {
  pool at(10);
  const offer first = at.begin(8, 13, start);  // 5 pages
  auto asked = pool::terms(8, 29);             // 9 pages
  asked.least_tokens = 12;
  const auto answer = at.cache->negotiate(asked, start + 1ms);
  REQUIRE(std::holds_alternative<offer>(answer));
  CHECK(std::get<offer>(answer).pages == 5);
  CHECK(std::get<offer>(answer).sequence_tokens == 20);
  CHECK(at.cache->counters().smaller_offers == 1);
  asked.least_tokens = 24;  // too little to begin with
  CHECK(std::holds_alternative<counter_offer>(at.cache->negotiate(asked, start + 2ms)));
  CHECK(first.sequence_tokens == 20);
}
