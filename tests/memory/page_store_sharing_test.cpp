// Pages with several holders: forks, references from outside, leases. Expectations: arithmetic.
#include "memory/page_store.hpp"

#include <vector>

#include "tests/memory/page_store_fixture.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using fixture = quire::testing::page_store_fixture;
using quire::testing::pages;

// --- fork and copy-on-write ----------------------------------------------------------------------

TEST_CASE("fork shares every page until the first write", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(48, 40);
  const sequence_id b = f.store.fork(a).value();
  REQUIRE(b != a);
  REQUIRE(f.table(b) == f.table(a));
  REQUIRE(f.store.tokens(b) == 40);
  for (std::uint32_t i = 0; i < 3; ++i) REQUIRE(f.store.info(page_id{i}).ref_count == 2);
  REQUIRE(f.store.stats().used_pages == 3);
  REQUIRE(f.store.stats().pages_allocated == 3);
  REQUIRE(f.store.stats().cow_operations == 1);
  REQUIRE(f.store.stats().active_sequences == 2);
}

TEST_CASE("forks of forks count every holder", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 16);
  const sequence_id b = f.store.fork(a).value();
  const sequence_id c = f.store.fork(b).value();
  REQUIRE(f.store.info(page_id{0}).ref_count == 3);
  f.store.free(b);
  REQUIRE(f.store.info(page_id{0}).ref_count == 2);
  f.store.free(a);
  REQUIRE(f.store.info(page_id{0}).ref_count == 1);
  f.store.free(c);
  REQUIRE(f.store.free_pages() == 10);
}

TEST_CASE("fork of an empty sequence is an empty sequence", "[memory]") {
  fixture f(2);
  const sequence_id b = f.store.fork(f.sequence(0)).value();
  REQUIRE(f.table(b).empty());
  REQUIRE(f.store.tokens(b) == 0);
}

TEST_CASE("reading a shared page copies nothing", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(32, 20);
  const sequence_id b = f.store.fork(a).value();
  const page_info info = f.store.page_for_reading(b, 17).value();
  REQUIRE(to_index(info.page) == 1);
  REQUIRE(info.ref_count == 2);
  REQUIRE(info.tokens == 4);
  REQUIRE(info.shared());
  REQUIRE(f.store.stats().cow_operations == 1);  // the fork
}

TEST_CASE("writing into a shared page takes a page and copies the filled tokens only", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(32, 20);
  const sequence_id b = f.store.fork(a).value();
  const writable_page page = f.store.page_for_writing(b, 20).value();
  REQUIRE(to_index(page.info.page) == 2);
  REQUIRE(page.info.ref_count == 1);
  REQUIRE_FALSE(page.info.shared());
  REQUIRE(page.info.tokens == 4);
  REQUIRE(page.copy.has_value());
  REQUIRE(to_index(page.copy->from) == 1);
  REQUIRE(to_index(page.copy->to) == 2);
  REQUIRE(page.copy->tokens == 4);
  REQUIRE(f.table(a) == pages{0, 1});
  REQUIRE(f.table(b) == pages{0, 2});
  REQUIRE(f.store.info(page_id{1}).ref_count == 1);
  REQUIRE(f.store.info(page_id{0}).ref_count == 2);
  REQUIRE(f.store.stats().cow_operations == 2);
  REQUIRE(f.store.stats().used_pages == 3);
}

TEST_CASE("writing into a page of one's own copies nothing and counts nothing", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 3);
  const writable_page page = f.store.page_for_writing(a, 3).value();
  REQUIRE_FALSE(page.copy.has_value());
  REQUIRE(to_index(page.info.page) == 0);
  REQUIRE(f.store.stats().cow_operations == 0);
}

TEST_CASE("a second write after un-sharing copies nothing", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 3);
  const sequence_id b = f.store.fork(a).value();
  f.store.page_for_writing(b, 0).value();
  REQUIRE_FALSE(f.store.page_for_writing(b, 1)->copy.has_value());
  REQUIRE_FALSE(f.store.page_for_writing(a, 1)->copy.has_value());
  REQUIRE(f.store.stats().cow_operations == 2);
}

TEST_CASE("un-sharing without a free page is refused and changes nothing", "[memory]") {
  fixture f(2);
  const sequence_id a = f.sequence(32, 20);
  const sequence_id b = f.store.fork(a).value();
  const auto refused = f.store.page_for_writing(b, 3);
  REQUIRE(refused.error().code == errc::out_of_pages);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{1, 0});
  REQUIRE(f.table(b) == pages{0, 1});
  REQUIRE(f.store.info(page_id{0}).ref_count == 2);
  REQUIRE(f.store.stats().cow_operations == 1);
  const auto growth = f.store.update_tokens(b, 25, f.copies);
  REQUIRE(growth.error().code == errc::out_of_pages);
  REQUIRE(f.store.tokens(b) == 20);
  REQUIRE(f.copies.empty());
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("growth un-shares only the pages that it writes into", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(64, 20);
  const sequence_id b = f.store.fork(a).value();
  REQUIRE(f.store.update_tokens(b, 40, f.copies).has_value());
  REQUIRE(f.table(b)[0] == 0);  // full and behind: stays shared
  REQUIRE(f.table(b)[1] != 1);
  REQUIRE(f.table(b)[2] != 2);
  REQUIRE(f.table(b)[3] == 3);    // not reached
  REQUIRE(f.copies.size() == 1);  // page 2 held nothing
  REQUIRE(f.copies[0].tokens == 4);
  REQUIRE(f.store.info(page_id{f.table(b)[2]}).tokens == 8);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("the last holder writes in place", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 3);
  const sequence_id b = f.store.fork(a).value();
  f.store.free(a);
  REQUIRE_FALSE(f.store.page_for_writing(b, 3)->copy.has_value());
  REQUIRE(f.table(b) == pages{0});
}

// --- references from outside, leases, resizing ---------------------------------------------------

TEST_CASE("allocate_shared begins with the prefix and adds the missing capacity", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(32, 32);
  const std::vector<page_id> prefix{page_id{0}, page_id{1}};
  const sequence_id b = f.store.allocate_shared(prefix, 40).value();
  REQUIRE(f.table(b) == pages{0, 1, 2});
  REQUIRE(f.store.tokens(b) == 32);
  REQUIRE(f.store.info(page_id{0}).ref_count == 2);
  REQUIRE(f.store.stats().used_pages == 3);
  f.store.free(a);
  REQUIRE(f.table(b) == pages{0, 1, 2});
  const sequence_id c = f.store.allocate_shared(prefix, 5).value();  // less than the prefix
  REQUIRE(f.table(c) == pages{0, 1});
  const auto refused = f.store.allocate_shared(prefix, 32 + 8 * 16);
  REQUIRE(refused.error().numbers == std::array<std::uint64_t, 2>{8, 7});
  REQUIRE(f.store.info(page_id{0}).ref_count == 2);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("a retained page outlives its sequence and keeps its tokens", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 16);
  f.store.retain(page_id{0});
  REQUIRE(f.store.info(page_id{0}).ref_count == 2);
  REQUIRE(f.store.truncate(a, 3).has_value());
  REQUIRE(f.store.info(page_id{0}).tokens == 16);
  f.store.free(a);
  REQUIRE(f.store.free_pages() == 9);
  const std::vector<page_id> held{page_id{0}};
  REQUIRE(f.store.check(held).has_value());
  REQUIRE_FALSE(f.store.check().has_value());
  f.store.release(page_id{0});
  REQUIRE(f.store.free_pages() == 10);
}

TEST_CASE("writing into a retained page un-shares it", "[memory]") {
  fixture f(10);
  const sequence_id a = f.sequence(16, 16);
  f.store.retain(page_id{0});
  const writable_page page = f.store.page_for_writing(a, 0).value();
  REQUIRE(page.copy.has_value());
  REQUIRE(f.store.info(page_id{0}).tokens == 16);
  REQUIRE(f.store.info(page_id{0}).ref_count == 1);
}

TEST_CASE("a leased page becomes free only when the lease ends", "[memory]") {
  fixture f(2);
  const sequence_id a = f.sequence(32, 32);
  const std::vector<page_id> leased{page_id{0}};
  f.store.lease(leased);
  f.store.lease(leased);
  f.store.free(a);
  REQUIRE(f.store.free_pages() == 1);
  REQUIRE(f.store.info(page_id{0}).leased);
  REQUIRE(f.store.check().has_value());
  REQUIRE(f.table(f.sequence(16)) == pages{1});
  REQUIRE(f.store.allocate(16).error().code == errc::out_of_pages);
  f.store.unlease(leased);
  REQUIRE(f.store.free_pages() == 0);
  f.store.unlease(leased);
  REQUIRE(f.store.free_pages() == 1);
  REQUIRE(f.table(f.sequence(16)) == pages{0});
}

TEST_CASE("resize adds free pages and removes the free tail", "[memory]") {
  fixture f(4);
  f.sequence(32, 32);
  REQUIRE(f.store.resize(100) == 100);
  REQUIRE(f.store.free_pages() == 98);
  const sequence_id b = f.sequence(16 * 50);
  REQUIRE(f.store.resize(10) == 52);
  REQUIRE(f.store.free_pages() == 0);
  f.store.free(b);
  REQUIRE(f.store.resize(10) == 10);
  REQUIRE(f.store.resize(0) == 2);
  REQUIRE(f.store.check().has_value());
}

TEST_CASE("a sequence adopts a full page that says the same as its own", "[memory]") {
  page_store store = *page_store::make(8, 4);
  std::vector<page_copy> copies;
  const sequence_id a = store.allocate(8).value();
  const sequence_id b = store.allocate(10).value();
  REQUIRE(store.update_tokens(a, 8, copies).has_value());
  REQUIRE(store.update_tokens(b, 10, copies).has_value());
  const std::vector<page_id> known(store.table(a)->begin(), store.table(a)->end());
  REQUIRE(store.adopt(b, 0, known[0]));
  REQUIRE(store.adopt(b, 1, known[1]));
  REQUIRE((*store.table(b))[0] == known[0]);
  REQUIRE((*store.table(b))[1] == known[1]);
  REQUIRE(store.info(known[0]).ref_count == 2);
  REQUIRE(store.stats().used_pages == 3);
  REQUIRE(store.stats().pages_freed == 2);
  REQUIRE(store.tokens(b) == 10);
  REQUIRE(copies.empty());
  REQUIRE(store.check().has_value());
  store.free(a);
  REQUIRE(store.info(known[0]).ref_count == 1);
  REQUIRE(store.check().has_value());
}

TEST_CASE("a page that others hold or a step reads is not given up for another", "[memory]") {
  page_store store = *page_store::make(8, 4);
  std::vector<page_copy> copies;
  const sequence_id a = store.allocate(4).value();
  const sequence_id b = store.allocate(4).value();
  REQUIRE(store.update_tokens(a, 4, copies).has_value());
  REQUIRE(store.update_tokens(b, 4, copies).has_value());
  const page_id known = (*store.table(a))[0];
  const std::vector<page_id> own(store.table(b)->begin(), store.table(b)->end());
  store.lease(own);
  REQUIRE_FALSE(store.adopt(b, 0, known));
  store.unlease(own);
  const sequence_id c = store.fork(b).value();
  REQUIRE_FALSE(store.adopt(b, 0, known));
  REQUIRE((*store.table(b))[0] == own[0]);
  store.free(c);
  REQUIRE(store.adopt(b, 0, known));
  REQUIRE(store.check().has_value());
}
