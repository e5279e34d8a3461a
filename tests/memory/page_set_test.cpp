// Expectations: std::set of the same numbers.
#include "memory/page_set.hpp"

#include <random>
#include <set>

#include "memory/sequence_slots.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

void require_same(const page_set& actual, const std::set<std::uint32_t>& expected,
                  std::uint32_t from) {
  const auto next = expected.lower_bound(from);
  REQUIRE(actual.next(from) == (next == expected.end() ? page_set::none : *next));
  std::uint32_t absent = from;
  while (absent < actual.limit() && expected.count(absent) != 0) ++absent;
  REQUIRE(actual.next_absent(from) == absent);
  std::uint32_t before = from;
  while (before > 0 && expected.count(before - 1) != 0) --before;
  REQUIRE(actual.previous_absent(from) == (before == 0 ? page_set::none : before - 1));
  if (expected.count(from) == 0) {
    std::uint32_t runs = 0;
    for (const std::uint32_t page : expected)
      runs += page < from && expected.count(page + 1) == 0 ? 1 : 0;
    REQUIRE(actual.runs_before(from) == runs);
  }
}

}  // namespace

TEST_CASE("a page set finds what a sorted set finds, at every size around its words", "[memory]") {
  const auto seed = GENERATE(1u, 2u, 3u);
  const auto limit = GENERATE(1u, 2u, 63u, 64u, 65u, 127u, 128u, 200u, 4096u, 4097u);
  std::mt19937 engine(seed);
  const auto random = [&engine] { return static_cast<std::uint32_t>(engine()); };
  page_set pages;
  pages.resize(limit);
  std::set<std::uint32_t> expected;
  for (int step = 0; step < 2000; ++step) {
    const std::uint32_t page = random() % limit;
    // In long phases of filling and emptying, so that full and empty words both occur.
    if ((step / 500 % 2 == 0) == (random() % 8 != 0)) {
      if (expected.insert(page).second) pages.insert(page);
    } else if (expected.erase(page) != 0) {
      pages.erase(page);
    }
    REQUIRE(pages.size() == expected.size());
    REQUIRE(pages.contains(page) == (expected.count(page) != 0));
    if (step % 16 == 0) require_same(pages, expected, random() % limit);
  }
}

TEST_CASE("a page set keeps its members when its range grows and shrinks", "[memory]") {
  page_set pages;
  pages.resize(10);
  pages.insert(9);
  pages.resize(100000);
  pages.insert(99999);
  REQUIRE(pages.next(0) == 9);
  REQUIRE(pages.next(10) == 99999);
  pages.erase(99999);
  pages.resize(10);
  REQUIRE(pages.next(0) == 9);
  REQUIRE(pages.next(10) == page_set::none);
}

TEST_CASE("slots are found after any order of inserts and erases", "[memory]") {
  std::mt19937 random(7);
  sequence_slots slots;
  std::vector<std::uint64_t> live;
  std::uint64_t next = 1;
  for (int step = 0; step < 20000; ++step) {
    if (live.empty() || random() % 2 == 0) {
      slots.insert(sequence_id{next}, static_cast<std::uint32_t>(next * 3));
      live.push_back(next++);
    } else {
      const std::size_t at = random() % live.size();
      slots.erase(sequence_id{live[at]});
      REQUIRE(slots.find(sequence_id{live[at]}) == sequence_slots::none);
      live[at] = live.back();
      live.pop_back();
    }
    REQUIRE(slots.size() == live.size());
    for (std::size_t i = 0; i < live.size(); i += 17)
      REQUIRE(slots.find(sequence_id{live[i]}) == static_cast<std::uint32_t>(live[i] * 3));
  }
}
