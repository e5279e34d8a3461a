// Moves of pages: what makes the store want them, what they reach, and whom they must not touch.
// Expectations: arithmetic.
#include "memory/page_store.hpp"

#include <vector>

#include "tests/memory/page_store_fixture.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using fixture = quire::testing::page_store_fixture;
using quire::testing::pages;

// --- should_defragment -------------------------------------------------------------------------

TEST_CASE("an empty store does not want defragmenting", "[memory]") {
  REQUIRE_FALSE(fixture(10).store.should_defragment());
}

TEST_CASE("holes per used page above the threshold want defragmenting", "[memory]") {
  fixture f(100);
  f.singles({0, 2, 4, 5, 6});  // 2 holes on 5 pages, all full, most of the store free
  REQUIRE(f.store.fragmentation().fragmentation_ratio == Approx(0.4));
  REQUIRE(f.store.should_defragment());
  REQUIRE(f.store.should_defragment(0.39));
  REQUIRE_FALSE(f.store.should_defragment(0.4));  // strictly above
}

TEST_CASE("waste above a quarter with more than two holes wants defragmenting", "[memory]") {
  fixture f(100);
  pages kept;
  for (std::uint32_t i = 0; i < 20; ++i) kept.push_back(i < 17 ? i : i + (i - 16));
  f.singles(kept, 11);  // 3 holes on 20 pages; 5 of 16 tokens empty
  REQUIRE(f.store.fragmentation().holes == 3);
  REQUIRE(f.store.fragmentation().wasted_capacity == 20 * 5);
  REQUIRE(f.store.should_defragment());

  fixture exactly(100);
  exactly.singles(kept, 12);  // exactly a quarter
  REQUIRE_FALSE(exactly.store.should_defragment());

  kept[19] = kept[18] + 1;  // two holes
  fixture fewer(100);
  fewer.singles(kept, 11);
  REQUIRE(fewer.store.fragmentation().holes == 2);
  REQUIRE_FALSE(fewer.store.should_defragment());
}

TEST_CASE("less than a tenth free with a hole wants defragmenting", "[memory]") {
  fixture f(100);
  pages kept;
  for (std::uint32_t i = 0; i < 100; ++i)
    if (i != 50) kept.push_back(i);
  f.singles(kept);
  REQUIRE(f.store.should_defragment());

  fixture exactly(100);  // ten free, one of them a hole
  kept.clear();
  for (std::uint32_t i = 0; i < 91; ++i)
    if (i != 50) kept.push_back(i);
  exactly.singles(kept);
  REQUIRE(exactly.store.free_pages() == 10);
  REQUIRE(exactly.store.fragmentation().holes == 1);
  REQUIRE_FALSE(exactly.store.should_defragment());

  fixture no_hole(100);
  kept.clear();
  for (std::uint32_t i = 0; i < 95; ++i) kept.push_back(i);
  no_hole.singles(kept);
  REQUIRE_FALSE(no_hole.store.should_defragment());
}

// --- compact -----------------------------------------------------------------------------------

TEST_CASE("compact makes a table adjacent and tells which pages moved", "[memory]") {
  fixture f(8);
  const sequence_id id = f.holding({0, 2, 5});
  REQUIRE(f.store.contiguity(id) == 0.0);
  f.copies.clear();
  REQUIRE(f.store.compact(id, f.copies) == 2);
  REQUIRE(f.store.contiguity(id) == 1.0);
  REQUIRE(f.table(id) == pages{0, 1, 2});
  const auto moves = f.store.take_moves();
  REQUIRE(moves.size() == 2);
  REQUIRE(f.copies.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    REQUIRE(f.copies[i].from == moves[i].first);
    REQUIRE(f.copies[i].to == moves[i].second);
    REQUIRE(f.copies[i].tokens == 16);
  }
  REQUIRE(f.store.stats().pages_moved == 2);
  REQUIRE(f.store.info(page_id{5}).ref_count == 0);
  REQUIRE(f.store.take_moves().empty());
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("compact of an adjacent, empty or unknown sequence moves nothing", "[memory]") {
  fixture f(8);
  const sequence_id adjacent = f.sequence(48, 48);
  f.copies.clear();
  REQUIRE(f.store.compact(adjacent, f.copies) == 0);
  REQUIRE(f.store.compact(f.store.allocate(0).value(), f.copies) == 0);
  REQUIRE(f.store.compact(sequence_id{999}, f.copies) == 0);
  REQUIRE(f.copies.empty());
  REQUIRE(f.store.stats().pages_moved == 0);
}

TEST_CASE("compact puts a table in order that lies in circles", "[memory]") {
  fixture f(5);
  const sequence_id id = f.holding({1, 0, 3, 2});
  REQUIRE(f.store.compact(id, f.copies) > 0);
  REQUIRE(f.store.contiguity(id) == 1.0);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("compact without any free page changes nothing and says so", "[memory]") {
  fixture f(4);
  const sequence_id id = f.holding({1, 0, 3, 2});
  REQUIRE(f.store.free_pages() == 0);
  REQUIRE(f.store.compact(id, f.copies) == 0);
  REQUIRE(f.table(id) == pages{1, 0, 3, 2});
}

TEST_CASE("compact orders a table that finds no run long enough", "[memory]") {
  fixture f(9);
  const auto others = f.singles({1, 3, 5, 7});
  const sequence_id id = f.store.allocate(5 * 16).value();  // every second page
  REQUIRE(f.table(id) == pages{0, 2, 4, 6, 8});
  f.store.free(others[3]);  // 7: the run 6..8 is the table's, 5 of it are nowhere
  REQUIRE(f.store.compact(id, f.copies) == 1);
  REQUIRE(f.table(id) == pages{0, 2, 4, 6, 7});
  REQUIRE(f.store.contiguity(id) == Approx(0.25));
}

TEST_CASE("compact moves a shared page in all tables that hold it", "[memory]") {
  fixture f(8);
  const sequence_id a = f.holding({0, 2, 5});
  const sequence_id b = f.store.fork(a).value();
  const sequence_id c = f.store.fork(b).value();
  REQUIRE(f.store.truncate(c, 20).has_value());
  REQUIRE(f.store.compact(b, f.copies) == 2);
  REQUIRE(f.table(a) == pages{0, 1, 2});
  REQUIRE(f.table(b) == pages{0, 1, 2});
  REQUIRE(f.table(c) == pages{0, 1});
  REQUIRE(f.store.info(page_id{1}).ref_count == 3);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("compact copies only the filled tokens", "[memory]") {
  fixture f(4);
  const sequence_id first = f.sequence(16, 16);
  const sequence_id gap = f.sequence(16, 16);
  REQUIRE(f.store.extend(first, 16).has_value());
  REQUIRE(f.store.update_tokens(first, 21, f.copies).has_value());
  f.store.free(gap);
  f.copies.clear();
  REQUIRE(f.store.compact(first, f.copies) == 1);
  REQUIRE(f.copies.size() == 1);
  REQUIRE(f.copies[0].tokens == 5);
}

TEST_CASE("compact leaves leased pages where they are", "[memory]") {
  fixture f(9);
  const sequence_id id = f.holding({0, 2, 5});
  const std::vector<page_id> leased{page_id{5}};
  f.store.lease(leased);
  f.store.compact(id, f.copies);
  REQUIRE(f.table(id) == pages{3, 4, 5});  // around the leased one
  const std::vector<page_id> all{page_id{3}, page_id{4}};
  const sequence_id other = f.holding({0, 2});
  f.store.unlease(leased);
  REQUIRE(f.store.compact(other, f.copies) == 1);
  f.store.lease(all);
  REQUIRE(f.store.compact(id, f.copies) == 0);
  f.store.unlease(all);
  REQUIRE(f.store.check().has_value());
}

// --- defragment --------------------------------------------------------------------------------

TEST_CASE("defragment closes all holes and packs the used pages to the front", "[memory]") {
  fixture f(20);
  const auto kept = f.singles({1, 3, 7, 8, 15, 19});
  f.copies.clear();
  const std::uint32_t moved = f.store.defragment(UINT32_MAX, f.copies);
  REQUIRE(moved == f.copies.size());
  REQUIRE(moved >= 4);  // page 8 and all above it lie outside of the first six
  REQUIRE(f.store.fragmentation().holes == 0);
  REQUIRE(f.store.fragmentation().largest_free_region == 14);
  for (std::uint32_t i = 0; i < 6; ++i) REQUIRE(f.store.info(page_id{i}).ref_count == 1);
  REQUIRE(f.store.stats().defrag_operations == 1);
  REQUIRE(f.store.stats().pages_moved == moved);
  REQUIRE_FALSE(f.store.should_defragment());
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("a page is seen to move: its sequence finds it elsewhere", "[memory]") {
  fixture f(4);
  const auto kept = f.singles({0, 3}, 9);
  REQUIRE(f.store.slot(kept[1], 2) == 3 * 16 + 2);
  f.copies.clear();
  REQUIRE(f.store.defragment(8, f.copies) == 1);
  REQUIRE(f.store.slot(kept[1], 2) == 1 * 16 + 2);
  REQUIRE(f.copies.size() == 1);
  REQUIRE(to_index(f.copies[0].from) == 3);
  REQUIRE(to_index(f.copies[0].to) == 1);
  REQUIRE(f.copies[0].tokens == 9);
  REQUIRE(f.store.page_for_reading(kept[1], 2)->tokens == 9);
}

TEST_CASE("defragment moves no more than it may, and goes on where it stopped", "[memory]") {
  fixture f(40);
  pages every_second;
  for (std::uint32_t i = 0; i < 20; ++i) every_second.push_back(2 * i);
  f.singles(every_second);
  REQUIRE(f.store.defragment(0, f.copies) == 0);
  REQUIRE(f.store.stats().defrag_operations == 0);
  std::uint32_t calls = 0;
  while (f.store.defragment(3, f.copies) == 3) ++calls;
  REQUIRE(calls == 3);
  REQUIRE(f.store.fragmentation().holes == 0);
  REQUIRE(f.store.stats().pages_moved == 10);  // the upper half
  REQUIRE(f.store.stats().defrag_operations == 4);
}

TEST_CASE("defragment of a packed store moves nothing and counts nothing", "[memory]") {
  fixture f(10);
  f.sequence(80, 80);
  f.copies.clear();
  REQUIRE(f.store.defragment(100, f.copies) == 0);
  REQUIRE(f.copies.empty());
  REQUIRE(f.store.stats().defrag_operations == 0);
}

TEST_CASE("defragment joins the pages of a sequence rather than scatter them", "[memory]") {
  fixture f(20);
  const sequence_id a = f.holding({0, 2, 4});
  const sequence_id b = f.holding({10, 11, 12, 13});
  f.store.defragment(100, f.copies);
  REQUIRE(f.table(a) == pages{0, 1, 2});
  REQUIRE(f.table(b) == pages{3, 4, 5, 6});  // as one run, in order
}

TEST_CASE("defragment keeps a run in order however small its steps", "[memory]") {
  const auto step = GENERATE(1u, 2u, 3u);
  fixture f(20);
  f.holding({0});
  const sequence_id b = f.holding({10, 11, 12, 13, 14});
  while (f.store.defragment(step, f.copies) > 0) {
  }
  REQUIRE(f.table(b) == pages{1, 2, 3, 4, 5});
}

TEST_CASE("defragment moves a shared page by rewriting every table", "[memory]") {
  fixture f(10);
  const sequence_id a = f.holding({2, 6});
  const sequence_id b = f.store.fork(a).value();
  f.store.retain(page_id{6});
  f.copies.clear();
  f.store.defragment(100, f.copies);
  REQUIRE(f.table(a) == pages{0, 1});
  REQUIRE(f.table(b) == pages{0, 1});
  REQUIRE(f.copies.size() == 2);  // once each, not once per table
  REQUIRE(f.store.info(page_id{1}).ref_count == 3);
  REQUIRE(f.store.info(page_id{6}).ref_count == 0);
  const std::vector<page_id> held{page_id{1}};
  REQUIRE(f.store.check(held).has_value());
}

TEST_CASE("defragment never touches a leased page", "[memory]") {
  fixture f(10);
  const auto kept = f.singles({2, 5, 9});
  const std::vector<page_id> leased{page_id{9}, page_id{2}};
  f.store.lease(leased);
  REQUIRE(f.store.defragment(100, f.copies) == 1);
  REQUIRE(f.table(kept[0]) == pages{2});
  REQUIRE(f.table(kept[1]) == pages{0});
  REQUIRE(f.table(kept[2]) == pages{9});
  f.store.unlease(leased);
  REQUIRE(f.store.defragment(100, f.copies) == 1);
  REQUIRE(f.store.fragmentation().largest_free_region == 7);
}

TEST_CASE("a freed but leased page is no place to move to", "[memory]") {
  fixture f(6);
  const auto kept = f.singles({0, 1, 5});
  const std::vector<page_id> leased{page_id{0}};
  f.store.lease(leased);
  f.store.free(kept[0]);
  REQUIRE(f.store.defragment(100, f.copies) == 1);
  REQUIRE(f.table(kept[1]) == pages{1});
  REQUIRE(f.table(kept[2]) == pages{2});
  f.store.unlease(leased);
  REQUIRE(f.store.free_pages() == 4);
}

TEST_CASE("copies applied in order are right when a page moves into one just vacated", "[memory]") {
  fixture f(12);
  const sequence_id id = f.holding({3, 5, 7, 9});
  std::vector<int> bytes(12);
  for (int i = 0; i < 4; ++i) bytes[static_cast<std::size_t>(3 + 2 * i)] = 100 + i;
  f.copies.clear();
  f.store.defragment(100, f.copies);
  for (const page_copy& copy : f.copies) bytes[to_index(copy.to)] = bytes[to_index(copy.from)];
  const pages table = f.table(id);
  for (std::size_t i = 0; i < 4; ++i) REQUIRE(bytes[table[i]] == 100 + static_cast<int>(i));
}
