#include "actors/cache_accounts.hpp"

#include <algorithm>
#include <map>
#include <random>

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;
constexpr std::uint32_t page_tokens = 4;

std::unique_ptr<cache_accounts> make(std::uint32_t pages, bool prefix_cache = true) {
  cache_accounts::options chosen;
  chosen.prefix_cache = prefix_cache;
  chosen.defragment.max_moves_per_step = 2;
  auto made = cache_accounts::make(pages, page_tokens, chosen);
  REQUIRE(made.has_value());
  return std::move(*made);
}

/// A prompt whose tokens are `first`, `first` + 1, ...
std::shared_ptr<const std::vector<token_id>> prompt(std::uint32_t tokens, std::uint32_t first = 0) {
  auto made = std::make_shared<std::vector<token_id>>();
  for (std::uint32_t i = 0; i < tokens; ++i) made->push_back(token_id{first + i});
  return made;
}

budget_terms terms(std::uint32_t prompt_tokens, std::uint32_t new_tokens, std::uint32_t first = 0) {
  budget_terms asked;
  asked.prompt = prompt(prompt_tokens, first);
  asked.sequence_tokens = prompt_tokens + new_tokens - 1;
  asked.shared_tokens = prompt_tokens - 1;
  asked.max_cached_tokens = prompt_tokens - 1;
  return asked;
}

offer granted(cache_accounts& cache, budget_terms asked, moment now = start) {
  const auto answer = cache.negotiate(std::move(asked), now);
  REQUIRE(std::holds_alternative<offer>(answer));
  REQUIRE(cache.accept(std::get<offer>(answer).ticket));
  return std::get<offer>(answer);
}

/// The offers that serving makes; whoever is asked to yield refuses.
std::vector<offer> serve(cache_accounts& cache, moment now) {
  std::vector<offer> made;
  for (const cache_effect& effect : cache.serve(now)) {
    if (const auto* next = std::get_if<offer>(&effect)) made.push_back(*next);
    if (const auto* ask = std::get_if<yield_ask>(&effect))
      cache.yielded(ask->sequence, yield_choice::refuse, 0, now);
  }
  return made;
}

/// A step in which one sequence runs `tokens` tokens, the last `generated` of them new.
step_pages run(cache_accounts& cache, sequence_id sequence, std::uint32_t tokens,
               std::vector<token_id> generated = {}, moment now = start) {
  static std::uint64_t step = 0;
  const std::vector<lease_item> items{{sequence, tokens, std::move(generated)}};
  auto pages = cache.lease(++step, items, false, now);
  cache.end_step(step, {});
  REQUIRE(cache.check());
  return pages;
}

}  // namespace

TEST_CASE("a budget that fits is offered at once, in pages", "[actors]") {
  const auto cache = make(10);
  const auto answer = cache->negotiate(terms(5, 8), start);  // 12 stored tokens: 3 pages
  REQUIRE(std::holds_alternative<offer>(answer));
  CHECK(std::get<offer>(answer).pages == 3);
  CHECK(cache->ledger().promised() == 3);
  CHECK(cache->store().free_pages() == 10);
}

TEST_CASE("what can never fit is refused with both figures", "[actors]") {
  const auto cache = make(10);
  const auto answer = cache->negotiate(terms(5, 37), start);
  REQUIRE(std::holds_alternative<refusal>(answer));
  CHECK(std::get<refusal>(answer).needed_tokens == 41);
  CHECK(std::get<refusal>(answer).available_tokens == 40);
  CHECK(std::holds_alternative<offer>(cache->negotiate(terms(5, 36), start)));
}

TEST_CASE("who does not fit now waits, and those behind wait too", "[actors]") {
  const auto cache = make(10);
  const auto first = granted(*cache, terms(5, 20, 0));             // 6 pages
  const auto second = cache->negotiate(terms(5, 20, 100), start);  // 6 pages: must wait
  const auto third = cache->negotiate(terms(2, 3, 200), start);    // 1 page: would fit
  REQUIRE(std::holds_alternative<counter_offer>(second));
  REQUIRE(std::holds_alternative<counter_offer>(third));
  CHECK(std::get<counter_offer>(second).position == 1);
  CHECK(std::get<counter_offer>(third).position == 2);
  CHECK(serve(*cache, start).empty());
  cache->release(first.sequence, start + 1s);
  const auto made = serve(*cache, start + 1s);
  REQUIRE(made.size() == 2);
  CHECK(made[0].ticket == std::get<counter_offer>(second).ticket);
  CHECK(made[1].ticket == std::get<counter_offer>(third).ticket);
  CHECK(cache->check());
}

TEST_CASE("an offer that nobody takes gives its pages to the next", "[actors]") {
  const auto cache = make(10);
  const auto answer = cache->negotiate(terms(5, 30), start);
  REQUIRE(std::holds_alternative<offer>(answer));
  const auto waits = cache->negotiate(terms(5, 30, 50), start);
  REQUIRE(std::holds_alternative<counter_offer>(waits));
  CHECK(serve(*cache, start + 4s).empty());
  CHECK(serve(*cache, start + 6s).size() == 1);
  CHECK_FALSE(cache->accept(std::get<offer>(answer).ticket).has_value());
  CHECK(cache->counters().expired_offers == 1);
}

TEST_CASE("full pages are shared with a request that runs beside their owner", "[actors]") {
  const auto cache = make(20);
  const auto first = granted(*cache, terms(10, 5));
  run(*cache, first.sequence, 10);  // two full pages and two tokens
  const auto second = granted(*cache, terms(10, 5));
  CHECK(second.cached_tokens == 8);
  const auto pages = run(*cache, second.sequence, 2);
  CHECK(pages.grants[0].first_position == 8);
  CHECK(cache->store().stats().used_pages == 4);
  CHECK(cache->prefix().hits == 1);
}

TEST_CASE("the last prompt token is always computed", "[actors]") {
  const auto cache = make(20);
  const auto first = granted(*cache, terms(8, 5));
  run(*cache, first.sequence, 8);
  CHECK(granted(*cache, terms(8, 5)).cached_tokens == 4);
}

TEST_CASE("cached prefixes are evicted before anybody waits", "[actors]") {
  const auto cache = make(10);
  const auto first = granted(*cache, terms(36, 4));
  run(*cache, first.sequence, 36);
  cache->release(first.sequence, start);
  CHECK(cache->store().free_pages() == 1);
  const auto second = granted(*cache, terms(36, 4, 1000));
  CHECK(second.cached_tokens == 0);
  const auto pages = run(*cache, second.sequence, 36);
  CHECK(pages.grants[0].what == lease_grant::outcome::granted);
  CHECK(cache->prefix().evictions == 8);
}

TEST_CASE("a cached prefix counts as used by the request that takes it", "[actors]") {
  const auto cache = make(10);
  const auto first = granted(*cache, terms(33, 2));  // 9 pages, 8 of them full
  run(*cache, first.sequence, 33);
  cache->release(first.sequence, start);
  // 8 cached, 2 free: the request needs 10 in all and gets them; nothing is left to promise.
  const auto second = granted(*cache, terms(33, 8));
  CHECK(second.cached_tokens == 32);
  CHECK(cache->ledger().promised() == 2);
  CHECK(std::holds_alternative<counter_offer>(cache->negotiate(terms(2, 2, 500), start)));
  CHECK(cache->check());
}

TEST_CASE("requests with one beginning wait for the first to compute it", "[actors]") {
  const auto cache = make(200);
  const auto first = granted(*cache, terms(21, 4));
  std::vector<ticket_id> waiting;
  for (int i = 0; i < 31; ++i) {
    const auto answer = cache->negotiate(terms(21, 4), start);
    REQUIRE(std::holds_alternative<counter_offer>(answer));
    CHECK(std::get<counter_offer>(answer).for_prefix);
    waiting.push_back(std::get<counter_offer>(answer).ticket);
  }
  // Somebody else is not held up by them.
  CHECK(std::holds_alternative<offer>(cache->negotiate(terms(21, 4, 700), start)));
  run(*cache, first.sequence, 10);
  CHECK(serve(*cache, start).empty());
  run(*cache, first.sequence, 11);
  const auto made = serve(*cache, start);
  REQUIRE(made.size() == 31);
  for (const auto& next : made) CHECK(next.cached_tokens == 20);
  CHECK(cache->counters().cached_tokens == 31 * 20);
}

TEST_CASE("two that computed one page in the same step go on with one of it", "[actors]") {
  const auto cache = make(40);
  auto asked = terms(21, 8);
  asked.max_cached_tokens = 0;  // neither waits for the other, as when both say the same text
  const auto first = granted(*cache, asked);
  const auto second = granted(*cache, asked);
  const std::vector<lease_item> both{{first.sequence, 21, {}}, {second.sequence, 21, {}}};
  const auto pages = cache->lease(70000, both, false, start);
  CHECK(cache->store().stats().used_pages == 12);
  cache->end_step(70000, {});
  CHECK(cache->store().stats().used_pages == 7);  // five full ones, and a last one each
  CHECK(cache->prefix().pages == 5);
  CHECK(cache->check());
  for (std::uint32_t i = 0; i < 5; ++i)
    CHECK((*cache->store().table(first.sequence))[i] ==
          (*cache->store().table(second.sequence))[i]);
  run(*cache, second.sequence, 1, {token_id{5}});
  cache->release(first.sequence, start);
  run(*cache, second.sequence, 1, {token_id{6}});
  cache->release(second.sequence, start);
  CHECK(cache->store().stats().used_pages == 5);
  CHECK(cache->check());
}

TEST_CASE("when the one who computes the beginning goes, the next takes over", "[actors]") {
  const auto cache = make(200);
  const auto first = granted(*cache, terms(21, 4));
  const auto second = cache->negotiate(terms(21, 4), start);
  const auto third = cache->negotiate(terms(21, 4), start);
  run(*cache, first.sequence, 9);
  cache->release(first.sequence, start);
  const auto made = serve(*cache, start);
  REQUIRE(made.size() == 1);
  CHECK(made[0].ticket == std::get<counter_offer>(second).ticket);
  CHECK(made[0].cached_tokens == 8);
  CHECK(cache->waiting() == 1);
}

TEST_CASE("forks share the prompt and are budgeted to the page", "[actors]") {
  // 9 shared tokens (2 full pages, one with 1 token); each of 3 sequences ends with 14 tokens:
  // 4 pages, 2 of them its own. 2 + 3 x 2 = 8 pages.
  for (const std::uint32_t pages : {8u, 9u}) {
    const auto cache = make(pages, false);
    auto asked = terms(10, 5);
    asked.num_sequences = 3;
    asked.max_cached_tokens = 0;
    const auto parent = granted(*cache, asked);
    CHECK(parent.pages == 8);
    run(*cache, parent.sequence, 9);
    const auto children = cache->fork(parent.sequence, 2);
    REQUIRE(children.has_value());
    REQUIRE(cache->check());
    CHECK(cache->store().stats().used_pages == 3);
    CHECK_FALSE(cache->fork(parent.sequence, 1).has_value());
    std::vector<sequence_id> all{parent.sequence, (*children)[0], (*children)[1]};
    std::uint64_t copies = 0;
    for (const sequence_id sequence : all) copies += run(*cache, sequence, 1).copies.size();
    CHECK(copies == 2);
    for (std::uint32_t i = 0; i < 4; ++i)
      for (const sequence_id sequence : all) {
        const auto got = run(*cache, sequence, 1, {token_id{i}});
        REQUIRE(got.grants[0].what == lease_grant::outcome::granted);
      }
    CHECK(cache->store().stats().used_pages == 8);
    CHECK(cache->ledger().promised() == 0);
    for (const sequence_id sequence : all) cache->release(sequence, start);
    CHECK(cache->store().stats().used_pages == 0);
    CHECK(cache->check());
  }
}

TEST_CASE("pages of a released sequence stay until the step that reads them ends", "[actors]") {
  const auto cache = make(10, false);
  const auto first = granted(*cache, terms(8, 4));
  const std::vector<lease_item> items{{first.sequence, 8, {}}};
  cache->lease(900, items);
  cache->release(first.sequence, start);
  CHECK(cache->store().free_pages() == 8);
  cache->end_step(900, {});
  CHECK(cache->store().free_pages() == 10);
  const std::vector<lease_item> again{{first.sequence, 1, {token_id{1}}}};
  CHECK(cache->lease(901, again).grants[0].what == lease_grant::outcome::gone);
}

TEST_CASE("what was leased but not run never becomes a prefix", "[actors]") {
  const auto cache = make(10);
  const auto first = granted(*cache, terms(9, 4));
  const std::vector<lease_item> items{{first.sequence, 9, {}}};
  cache->lease(900, items);
  const std::vector<sequence_id> not_run{first.sequence};
  cache->end_step(900, {true, not_run, {}});
  CHECK(cache->prefix().pages == 0);
}

TEST_CASE("a failed step that moved pages loses what lies on them, and the cache", "[actors]") {
  const auto cache = make(12);
  const auto stays = granted(*cache, terms(4, 1, 900));
  run(*cache, stays.sequence, 4);
  auto gone = terms(9, 4, 100);
  gone.keep_prefix = false;
  const auto goes = granted(*cache, gone);
  run(*cache, goes.sequence, 9);
  const auto moves = granted(*cache, terms(5, 4, 500));
  run(*cache, moves.sequence, 5);
  CHECK(cache->prefix().pages == 2);
  cache->release(goes.sequence, start);
  const auto idle = cache->lease(900, {}, true);
  CHECK(idle.copies.size() == 2);
  CHECK(cache->end_step(900, {false, {}, {}}) == std::vector{moves.sequence});
  CHECK(cache->prefix().pages == 0);
  CHECK(cache->check());
}

namespace {

/// Idle steps until nothing is moved or given back; returns where the last trim began.
std::optional<std::uint32_t> tidy_up(cache_accounts& cache, moment now) {
  static std::uint64_t step = 90000;
  std::optional<std::uint32_t> trimmed;
  for (int i = 0; i < 100; ++i) {
    const auto pages = cache.lease(++step, {}, true, now);
    CHECK(pages.copies.size() <= 16);
    cache.end_step(step, {});
    REQUIRE(cache.check());
    if (pages.trim_from_page) {
      CHECK((!trimmed || *pages.trim_from_page < *trimmed));
      trimmed = pages.trim_from_page;
    } else if (pages.copies.empty()) {
      return trimmed;
    }
  }
  FAIL("idle steps find no end");
  return trimmed;
}

/// Eight sequences of five pages; all but the seventh end. Returns that one.
sequence_id burst(cache_accounts& cache, moment now) {
  std::vector<offer> all;
  for (std::uint32_t i = 0; i < 8; ++i) {
    all.push_back(granted(cache, terms(17, 4, 100 * i), now));
    run(cache, all.back().sequence, 17, {}, now);
  }
  for (std::uint32_t i = 0; i < 8; ++i)
    if (i != 6) cache.release(all[i].sequence, now);
  return all[6].sequence;
}

}  // namespace

TEST_CASE("idle steps pack the pool, and give its tail back when load stays low", "[actors]") {
  const auto cache = make(40, false);
  burst(*cache, start);
  const auto first = cache->lease(1, {}, true, start + 1s);
  CHECK(first.tidy_in == 4s);  // nothing happens until then, unless somebody comes
  cache->end_step(1, {});
  CHECK_FALSE(tidy_up(*cache, start + 1s));  // the burst may come again
  CHECK(cache->store().tail_begin() == 5);
  CHECK_FALSE(tidy_up(*cache, start + 4999ms));
  CHECK(tidy_up(*cache, start + 5s) == 5u);
  CHECK_FALSE(tidy_up(*cache, start + 6s));
}

TEST_CASE("an idle pool drops prefixes, the oldest first, down to its minimum", "[actors]") {
  cache_accounts::options chosen;
  chosen.min_pages = 12;
  chosen.idle = 1s;
  const auto cache = std::move(*cache_accounts::make(40, page_tokens, chosen));
  const sequence_id stays = burst(*cache, start);
  const std::size_t pages = cache->store().table(stays)->size();
  // A prefix that is asked for meanwhile is the last to go, and puts the idle time off.
  const offer again = granted(*cache, terms(17, 4, 300), start + 700ms);
  CHECK(again.cached_tokens == 16);
  cache->release(again.sequence, start + 800ms);
  CHECK_FALSE(tidy_up(*cache, start + 1700ms));
  CHECK(cache->prefix().pages == 32);
  CHECK(tidy_up(*cache, start + 1800ms) == 12u);
  CHECK(cache->store().num_pages() - cache->store().free_pages() == 12);
  CHECK(cache->store().tail_begin() == 12);
  CHECK(cache->store().tokens(stays) == 17);
  CHECK(cache->store().table(stays)->size() == pages);
  const auto done = cache->lease(2, {}, true, start + 1900ms);
  CHECK_FALSE(done.tidy_in);  // at its minimum: no need to look again
  cache->end_step(2, {});
  const offer kept = granted(*cache, terms(17, 4, 300), start + 2s);
  CHECK(kept.cached_tokens == 16);
}

TEST_CASE("the pool shrinks beside a sequence that goes on running", "[actors]") {
  cache_accounts::options chosen;
  chosen.min_pages = 4;
  chosen.idle = 1s;
  const auto cache = std::move(*cache_accounts::make(40, page_tokens, chosen));
  const sequence_id stays = burst(*cache, start);
  std::optional<std::uint32_t> trimmed;
  std::uint64_t step = 5000;
  for (int i = 1; i <= 60; ++i) {
    // It reads and writes all the while: one token more, one token less.
    const std::vector<lease_item> one{{stays, 1, {token_id{7}}}};
    const auto pages = cache->lease(++step, one, false, start + i * 100ms);
    CHECK(pages.copies.size() <= 8);
    REQUIRE(pages.grants[0].what == lease_grant::outcome::granted);
    if (pages.trim_from_page) {
      CHECK(i >= 10);
      trimmed = pages.trim_from_page;
      for (const page_id page : pages.grants[0].table) CHECK(to_index(page) < *trimmed);
      for (const page_copy& copy : pages.copies) CHECK(to_index(copy.to) < *trimmed);
    }
    cache->end_step(step, {});
    REQUIRE(cache->truncate(stays, 17));
    REQUIRE(cache->check());
  }
  CHECK(trimmed == 5u);
  CHECK(cache->store().tail_begin() == 5);
}

namespace {

/// A request of the random test: what it has and what it still wants.
struct random_request {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t left_to_run = 0;  ///< prompt tokens
  std::uint32_t left_to_generate = 0;
  std::uint32_t choices = 1;
  bool forked = false;
  bool began = false;  ///< a fork has run the last prompt token
};

}  // namespace

TEST_CASE("random requests: promises are kept, pages conserved, everybody served", "[actors]") {
  const std::uint32_t seed = GENERATE(1u, 2u, 3u, 4u);
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  const auto cache = make(48);
  std::map<ticket_id, random_request> waiting;
  std::map<sequence_id, random_request> running;
  moment now = start;
  std::uint64_t step = 1000000;
  std::uint32_t served = 0;
  const auto take = [&](const offer& made, random_request about) {
    ++served;
    if (below(10) == 0) {  // changes its mind
      cache->drop(made.ticket, now);
      return;
    }
    REQUIRE(cache->accept(made.ticket));
    about.left_to_run = about.prompt_tokens - (about.choices > 1 ? 1 : 0) - made.cached_tokens;
    running[made.sequence] = about;
  };
  for (int round = 0; round < 3000; ++round) {
    now += 1ms;
    if (round < 2500 && below(3) == 0 && waiting.size() < 30) {
      random_request about;
      about.prompt_tokens = 2 + below(60);
      about.left_to_generate = 1 + below(30);
      about.choices = below(5) == 0 ? 2 + below(3) : 1;
      auto asked = terms(about.prompt_tokens, about.left_to_generate, below(3) * 1000);
      asked.num_sequences = about.choices;
      asked.priority = static_cast<int>(below(3));
      const auto answer = cache->negotiate(asked, now);
      if (const auto* made = std::get_if<offer>(&answer)) take(*made, about);
      if (const auto* later = std::get_if<counter_offer>(&answer)) waiting[later->ticket] = about;
    }
    std::vector<lease_item> items;
    for (auto& [sequence, about] : running) {
      if (below(4) == 0) continue;
      if (about.left_to_run > 0)
        items.push_back({sequence, 1 + below(about.left_to_run), {}});
      else if (about.forked && !about.began)
        items.push_back({sequence, 1, {}});
      else if (about.choices == 1 || about.forked)
        items.push_back({sequence, 1, {token_id{below(100)}}});
    }
    const auto pages = cache->lease(++step, items, items.empty());
    std::vector<sequence_id> dying;
    for (const auto& [sequence, about] : running)
      if (below(60) == 0) dying.push_back(sequence);
    for (const sequence_id sequence : dying) {  // in the middle of the step
      cache->release(sequence, now);
      running.erase(sequence);
    }
    REQUIRE(cache->end_step(step, {true, dying, {}}).empty());
    for (std::size_t i = 0; i < items.size(); ++i) {
      REQUIRE(pages.grants[i].what == lease_grant::outcome::granted);  // a promise is a promise
      const auto found = running.find(items[i].sequence);
      if (found == running.end()) continue;
      auto& about = found->second;
      if (about.left_to_run > 0)
        about.left_to_run -= items[i].num_tokens;
      else {
        --about.left_to_generate;
        about.began = about.forked;
      }
      // The last token is never stored.
      if (about.left_to_run == 0 && about.left_to_generate <= (about.forked ? 0u : 1u) &&
          (about.choices == 1 || about.forked)) {
        cache->release(found->first, now);
        running.erase(found);
      }
    }
    for (auto at = running.begin(); at != running.end(); ++at) {
      if (at->second.forked || at->second.choices == 1 || at->second.left_to_run > 0) continue;
      at->second.forked = true;
      const auto children = cache->fork(at->first, at->second.choices - 1);
      REQUIRE(children.has_value());
      // The fork's first stored token is the last one of the prompt.
      for (const sequence_id child : *children) running[child] = at->second;
      break;
    }
    for (const offer& made : serve(*cache, now)) {
      REQUIRE(waiting.contains(made.ticket));
      take(made, waiting.at(made.ticket));
      waiting.erase(made.ticket);
    }
    const auto sound = cache->check();
    INFO("seed " << seed << " round " << round << ": "
                 << (sound ? std::string() : sound.error().message));
    REQUIRE(sound);
  }
  CHECK(waiting.empty());
  CHECK(running.empty());
  CHECK(served > 300);
  CHECK(cache->store().stats().used_pages == cache->prefix().pages);
}
