// The behaviours of the store, one by one. Expectations: arithmetic.
#include "memory/page_store.hpp"

#include <vector>

#include "tests/memory/page_store_fixture.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using fixture = quire::testing::page_store_fixture;
using quire::testing::pages;

namespace {

page_store make_store(std::uint32_t num_pages) {
  return *page_store::make(num_pages, 16);
}

}  // namespace

// --- construction and statistics of an empty store ---------------------------------------------

TEST_CASE("a new store has every page free", "[memory]") {
  const page_store store = make_store(100);
  REQUIRE(store.num_pages() == 100);
  REQUIRE(store.free_pages() == 100);
  REQUIRE(store.stats().used_pages == 0);
  REQUIRE(store.stats().free_pages == 100);
  REQUIRE(store.stats().active_sequences == 0);
  REQUIRE(store.utilization_percent() == 0.0);
}

TEST_CASE("a store of no pages is legal: utilization 0, nothing free", "[memory]") {
  page_store store = make_store(0);
  REQUIRE(store.utilization_percent() == 0.0);
  REQUIRE(store.free_pages() == 0);
  REQUIRE_FALSE(store.should_defragment());
  REQUIRE(store.allocate(0).has_value());
  const auto refused = store.allocate(1);
  REQUIRE(refused.error().code == errc::out_of_pages);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{1, 0});
  REQUIRE(store.check().has_value());
}

TEST_CASE("pages of no tokens are refused", "[memory]") {
  REQUIRE(page_store::make(4, 0).error().code == errc::invalid_argument);
}

TEST_CASE("a number of pages that no machine holds is refused", "[memory]") {
  REQUIRE(page_store::make(UINT32_MAX, 16).error().code == errc::invalid_argument);
}

TEST_CASE("every free page has count 0 and stores nothing", "[memory]") {
  fixture f(4);
  const sequence_id id = f.sequence(64, 64);
  f.store.free(id);
  for (std::uint32_t i = 0; i < 4; ++i) {
    REQUIRE(f.store.info(page_id{i}).ref_count == 0);
    REQUIRE(f.store.info(page_id{i}).tokens == 0);
  }
}

// --- allocate ----------------------------------------------------------------------------------

TEST_CASE("allocate takes the pages that the tokens need, rounded up", "[memory]") {
  const auto [tokens, expected] = GENERATE(table<std::uint64_t, std::uint64_t>(
      {{1, 1}, {15, 1}, {16, 1}, {17, 2}, {32, 2}, {33, 3}, {160, 10}}));
  fixture f(10);
  const sequence_id id = f.sequence(tokens);
  REQUIRE(f.table(id).size() == expected);
  REQUIRE(f.store.stats().used_pages == expected);
  REQUIRE(f.store.stats().pages_allocated == expected);
  REQUIRE(f.store.pages_for(tokens) == expected);
  REQUIRE(f.store.tokens(id) == 0);
  REQUIRE(f.store.capacity(id) == expected * 16);
}

TEST_CASE("allocate of no tokens makes a sequence of no pages", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(0);
  REQUIRE(f.table(id).empty());
  REQUIRE(f.store.free_pages() == 10);
  REQUIRE(f.store.stats().active_sequences == 1);
  REQUIRE(f.store.contiguity(id) == 1.0);
}

TEST_CASE("allocate refuses with what is needed and what is there, and changes nothing",
          "[memory]") {
  fixture f(4);
  f.sequence(48);
  const auto refused = f.store.allocate(40);
  REQUIRE(refused.error().code == errc::out_of_pages);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{3, 1});
  REQUIRE(f.store.free_pages() == 1);
  REQUIRE(f.store.stats().active_sequences == 1);
  REQUIRE(f.store.stats().sequences_allocated == 1);
  REQUIRE(f.store.allocate(16).has_value());
}

TEST_CASE("allocate refuses more tokens than can be counted", "[memory]") {
  fixture f(4);
  REQUIRE(f.store.allocate(UINT64_MAX).error().code == errc::out_of_pages);
  const sequence_id id = f.sequence(16, 16);
  REQUIRE(f.store.extend(id, UINT64_MAX).error().code == errc::out_of_pages);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("ids rise and are never reused", "[memory]") {
  fixture f(4);
  std::uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const sequence_id id = f.sequence(16);
    REQUIRE(to_index(id) > last);
    last = to_index(id);
    f.store.free(id);
  }
}

TEST_CASE("a new sequence in a new store is adjacent and starts at the front", "[memory]") {
  fixture f(10);
  REQUIRE(f.table(f.sequence(64)) == pages{0, 1, 2, 3});
  REQUIRE(f.table(f.sequence(32)) == pages{4, 5});
}

TEST_CASE("an allocation prefers a run that holds all of it to scattered low pages", "[memory]") {
  fixture f(10);
  f.sequence(16);
  const sequence_id hole = f.sequence(16);
  f.sequence(16);
  f.store.free(hole);
  REQUIRE(f.table(f.sequence(48)) == pages{3, 4, 5});
  REQUIRE(f.table(f.sequence(16)) == pages{1});
}

// --- extend and append -------------------------------------------------------------------------

TEST_CASE("extend within the capacity takes no page", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(16, 10);
  REQUIRE(f.store.extend(id, 6).has_value());
  REQUIRE(f.store.capacity(id) == 16);
  REQUIRE(f.store.stats().pages_allocated == 1);
}

TEST_CASE("extend past the capacity takes only the missing pages", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(16, 10);
  REQUIRE(f.store.extend(id, 7).has_value());
  REQUIRE(f.store.capacity(id) == 32);
  REQUIRE(f.store.extend(id, 7).has_value());  // still 10 stored: the room is there already
  REQUIRE(f.store.capacity(id) == 32);
}

TEST_CASE("extend refuses with the missing pages and changes nothing", "[memory]") {
  fixture f(3);
  const sequence_id id = f.sequence(32, 32);
  const auto refused = f.store.extend(id, 33);
  REQUIRE(refused.error().code == errc::out_of_pages);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{3, 1});
  REQUIRE(f.store.capacity(id) == 32);
  REQUIRE(f.store.free_pages() == 1);
}

TEST_CASE("extend continues on the next physical page when that is free", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 16);
  f.store.free(f.sequence(16));
  REQUIRE(f.store.extend(a, 16).has_value());
  REQUIRE(f.table(a) == pages{0, 1});
}

TEST_CASE("update_tokens sets what is stored, page by page", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(48, 20);
  REQUIRE(f.store.tokens(id) == 20);
  REQUIRE(f.store.info(page_id{0}).tokens == 16);
  REQUIRE(f.store.info(page_id{1}).tokens == 4);
  REQUIRE(f.store.info(page_id{2}).tokens == 0);
}

TEST_CASE("growing past the capacity is an error, not silence", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(16, 10);
  const auto refused = f.store.update_tokens(id, 17, f.copies);
  REQUIRE(refused.error().code == errc::out_of_bounds);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{17, 16});
  REQUIRE(f.store.tokens(id) == 10);
}

TEST_CASE("shrinking clears the counts of later pages and keeps the capacity", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(48, 48);
  REQUIRE(f.store.update_tokens(id, 5, f.copies).has_value());
  REQUIRE(f.store.info(page_id{0}).tokens == 5);
  REQUIRE(f.store.info(page_id{1}).tokens == 0);
  REQUIRE(f.store.info(page_id{2}).tokens == 0);
  REQUIRE(f.store.capacity(id) == 48);
}

// --- truncate ----------------------------------------------------------------------------------

TEST_CASE("truncate returns whole pages", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(64, 60);
  REQUIRE(f.store.truncate(id, 17).has_value());
  REQUIRE(f.store.tokens(id) == 17);
  REQUIRE(f.table(id) == pages{0, 1});
  REQUIRE(f.store.free_pages() == 8);
  REQUIRE(f.store.info(page_id{1}).tokens == 1);
  REQUIRE(f.store.truncate(id, 0).has_value());
  REQUIRE(f.table(id).empty());
}

TEST_CASE("truncate to more than is stored is an error", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(32, 10);
  const auto refused = f.store.truncate(id, 11);
  REQUIRE(refused.error().code == errc::out_of_bounds);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{11, 10});
  REQUIRE(f.table(id).size() == 2);
}

TEST_CASE("truncate below a page boundary leaves the sharer everything", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(48, 40);
  const sequence_id b = f.store.fork(a).value();
  REQUIRE(f.store.truncate(b, 20).has_value());
  REQUIRE(f.store.tokens(a) == 40);
  REQUIRE(f.table(a) == pages{0, 1, 2});
  REQUIRE(f.store.info(page_id{1}).tokens == 16);
  REQUIRE(f.store.info(page_id{2}).ref_count == 1);
  REQUIRE(f.store.check().has_value());

  // The truncated one grows on a page of its own, into which only its own tokens are copied.
  REQUIRE(f.store.update_tokens(b, 21, f.copies).has_value());
  REQUIRE(f.copies.size() == 1);
  REQUIRE(to_index(f.copies[0].from) == 1);
  REQUIRE(f.copies[0].tokens == 4);
  REQUIRE(f.table(a) == pages{0, 1, 2});
  REQUIRE(f.store.info(page_id{1}).tokens == 16);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("a page that only a truncated sharer still holds counts what that one stores",
          "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 16);
  const sequence_id b = f.store.fork(a).value();
  REQUIRE(f.store.truncate(b, 3).has_value());
  REQUIRE(f.store.info(page_id{0}).tokens == 16);
  f.store.free(a);
  REQUIRE(f.store.info(page_id{0}).tokens == 3);
  REQUIRE(f.store.fragmentation().wasted_capacity == 13);
}

// --- errors of access --------------------------------------------------------------------------

TEST_CASE("access past the block table names page and position", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(32, 32);
  const std::array<std::uint64_t, 2> expected{2, 40};
  REQUIRE(f.store.page_for_reading(a, 40).error().code == errc::invalid_page_access);
  REQUIRE(f.store.page_for_reading(a, 40).error().numbers == expected);
  REQUIRE(f.store.page_for_writing(a, 40).error().code == errc::invalid_page_access);
  REQUIRE(f.store.page_for_writing(a, 40).error().numbers == expected);
}

TEST_CASE("slot is page times page_tokens plus the rest, through the block table", "[memory]") {
  fixture f(10);
  f.sequence(16);
  const sequence_id gap = f.sequence(16);
  const sequence_id a = f.sequence(16, 16);
  f.store.free(gap);
  f.sequence(16);
  REQUIRE(f.store.extend(a, 16).has_value());
  REQUIRE(f.table(a) == pages{2, 3});
  REQUIRE(f.store.slot(a, 0) == 32);
  REQUIRE(f.store.slot(a, 15) == 47);
  REQUIRE(f.store.slot(a, 17) == 49);
  const auto refused = f.store.slot(a, 32);
  REQUIRE(refused.error().code == errc::out_of_bounds);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{32, 32});
}

TEST_CASE("an unknown sequence is an error everywhere but in free and compact", "[memory]") {
  fixture f(10);
  const sequence_id gone = f.sequence(16);
  f.store.free(gone);
  const auto is_unknown = [&](const auto& answer) {
    return !answer && answer.error().code == errc::sequence_not_found &&
           answer.error().numbers[0] == to_index(gone);
  };
  REQUIRE(is_unknown(f.store.extend(gone, 1)));
  REQUIRE(is_unknown(f.store.update_tokens(gone, 1, f.copies)));
  REQUIRE(is_unknown(f.store.truncate(gone, 0)));
  REQUIRE(is_unknown(f.store.fork(gone)));
  REQUIRE(is_unknown(f.store.page_for_reading(gone, 0)));
  REQUIRE(is_unknown(f.store.page_for_writing(gone, 0)));
  REQUIRE(is_unknown(f.store.slot(gone, 0)));
  REQUIRE(is_unknown(f.store.tokens(gone)));
  REQUIRE(is_unknown(f.store.capacity(gone)));
  REQUIRE(is_unknown(f.store.contiguity(gone)));
  REQUIRE(is_unknown(f.store.table(gone)));
  REQUIRE(f.store.compact(gone, f.copies) == 0);
}

// --- free --------------------------------------------------------------------------------------

TEST_CASE("free returns every page", "[memory]") {
  fixture f(10);
  f.store.free(f.sequence(100, 90));
  REQUIRE(f.store.free_pages() == 10);
  REQUIRE(f.store.stats().pages_freed == 7);
  REQUIRE(f.store.stats().sequences_freed == 1);
  REQUIRE(f.store.stats().active_sequences == 0);
}

TEST_CASE("free of an unknown sequence changes no statistic", "[memory]") {
  fixture f(10);
  const sequence_id id = f.sequence(16);
  f.store.free(id);
  f.store.free(id);
  f.store.free(sequence_id{12345});
  REQUIRE(f.store.stats().sequences_freed == 1);
  REQUIRE(f.store.stats().pages_freed == 1);
}

TEST_CASE("free of a sharer leaves the page to the other", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(32, 32);
  const sequence_id b = f.store.fork(a).value();
  f.store.free(a);
  REQUIRE(f.store.stats().used_pages == 2);
  REQUIRE(f.store.stats().pages_freed == 0);
  REQUIRE(f.table(b) == pages{0, 1});
  f.store.free(b);
  REQUIRE(f.store.stats().pages_freed == 2);
  REQUIRE(f.store.free_pages() == 10);
}

TEST_CASE("a freed page is given out again, empty", "[memory]") {
  fixture f(2);
  f.store.free(f.sequence(32, 32));
  const sequence_id b = f.sequence(32);
  REQUIRE(f.store.info(page_id{f.table(b)[0]}).tokens == 0);
  REQUIRE(f.store.info(page_id{f.table(b)[0]}).ref_count == 1);
}

TEST_CASE("a million sequences come and go without growth", "[memory]") {
  page_store store = make_store(1000);
  std::vector<sequence_id> live(64);
  for (int i = 0; i < 1000000; ++i) {
    sequence_id& slot = live[static_cast<std::size_t>(i) % live.size()];
    store.free(slot);
    slot = store.allocate(static_cast<std::uint64_t>(i) % 100).value();
  }
  REQUIRE(store.stats().sequences_allocated == 1000000);
  REQUIRE(store.stats().active_sequences == 64);
  for (const sequence_id id : live) store.free(id);
  REQUIRE(store.free_pages() == 1000);
  REQUIRE(store.check().has_value());
}

// --- utilization, waste, holes -------------------------------------------------------------------

TEST_CASE("utilization is used pages in percent, a shared page counted once", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(80, 80);
  REQUIRE(f.store.utilization_percent() == Approx(50.0));
  f.store.fork(a).value();
  REQUIRE(f.store.utilization_percent() == Approx(50.0));
}

TEST_CASE("wasted capacity counts a shared page once", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(32, 20);
  REQUIRE(f.store.fragmentation().wasted_capacity == 12);
  REQUIRE(f.store.fragmentation().avg_tokens_per_page == Approx(10.0));
  f.store.fork(a).value();
  REQUIRE(f.store.fragmentation().wasted_capacity == 12);
  REQUIRE(f.store.fragmentation().avg_tokens_per_page == Approx(10.0));
}

TEST_CASE("holes are free runs strictly between used pages", "[memory]") {
  fixture f(20);
  std::vector<sequence_id> single;
  for (int i = 0; i < 10; ++i) single.push_back(f.sequence(16, 16));
  REQUIRE(f.store.fragmentation().holes == 0);
  f.store.free(single[0]);  // the front: no hole
  REQUIRE(f.store.fragmentation().holes == 0);
  f.store.free(single[3]);
  f.store.free(single[4]);  // one run of two
  REQUIRE(f.store.fragmentation().holes == 1);
  f.store.free(single[7]);
  REQUIRE(f.store.fragmentation().holes == 2);
  f.store.free(single[9]);  // grows the tail
  REQUIRE(f.store.fragmentation().holes == 2);
  REQUIRE(f.store.fragmentation().fragmentation_ratio == Approx(2.0 / 5.0));
  REQUIRE(f.store.fragmentation().largest_free_region == 11);
}

TEST_CASE("an empty store has no fragmentation", "[memory]") {
  const fragmentation_stats f = make_store(10).fragmentation();
  REQUIRE(f.holes == 0);
  REQUIRE(f.wasted_capacity == 0);
  REQUIRE(f.fragmentation_ratio == 0.0);
  REQUIRE(f.largest_free_region == 10);
  REQUIRE(f.avg_tokens_per_page == 0.0);
}

TEST_CASE("contiguity is the share of neighbours in the table that are neighbours in memory",
          "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(48, 48);
  REQUIRE(f.store.contiguity(a) == 1.0);
  f.sequence(16);
  REQUIRE(f.store.extend(a, 32).has_value());
  REQUIRE(f.table(a) == pages{0, 1, 2, 4, 5});
  REQUIRE(f.store.contiguity(a) == Approx(3.0 / 4.0));
  REQUIRE(f.store.contiguity(f.sequence(16)) == 1.0);
}
