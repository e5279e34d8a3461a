#include "actors/reclaim_policy.hpp"

#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

const moment start = moment{} + 1h;

reclaim_candidate holder(std::uint64_t ticket, int priority, moment counts_from,
                         std::uint32_t pages = 10, bool held = false) {
  return {ticket_id{ticket}, priority, counts_from, held, pages};
}

}  // namespace

TEST_CASE("the lowest priority yields first, then the latest", "[actors]") {
  const reclaim_need need{ticket_id{9}, 0, start, true};
  const std::vector<reclaim_candidate> all{holder(1, 0, start + 1s), holder(2, 0, start + 3s),
                                           holder(3, -1, start + 2s), holder(4, 0, start + 2s)};
  CHECK(choose_victims(need, all, 10) == std::vector{ticket_id{3}});
  CHECK(choose_victims(need, all, 11) == std::vector{ticket_id{3}, ticket_id{2}});
  CHECK(choose_victims(need, all, 30) == std::vector{ticket_id{3}, ticket_id{2}, ticket_id{4}});
}

TEST_CASE("nobody is asked in vain", "[actors]") {
  const reclaim_need need{ticket_id{9}, 0, start, true};
  CHECK(choose_victims(need, {holder(1, 0, start + 1s)}, 11).empty());
  CHECK(choose_victims(need, {holder(1, 0, start - 1s)}, 5).empty());
  CHECK(choose_victims(need, {holder(9, 0, start)}, 5).empty());
}

TEST_CASE("who counts from earlier never yields to who counts from later", "[actors]") {
  CHECK_FALSE(may_take({ticket_id{2}, 5, start, true}, holder(1, 0, start - 1ms)));
  CHECK(may_take({ticket_id{1}, 0, start, true}, holder(2, 5, start + 1ms)));
  // Of two that count from the same time one goes first, never each.
  CHECK(may_take({ticket_id{1}, 0, start, true}, holder(2, 0, start)));
  CHECK_FALSE(may_take({ticket_id{2}, 0, start, true}, holder(1, 0, start)));
}

TEST_CASE("who waits to start displaces only lower priorities", "[actors]") {
  CHECK_FALSE(may_take({ticket_id{1}, 0, start, false}, holder(2, 0, start + 1s)));
  CHECK(may_take({ticket_id{1}, 1, start, false}, holder(2, 0, start + 1s)));
}

TEST_CASE("those whose readers are slow are asked before all others", "[actors]") {
  const reclaim_need need{ticket_id{9}, 0, start, false};
  const std::vector<reclaim_candidate> all{holder(1, -5, start + 9s),
                                           holder(2, 7, start - 9s, 10, true)};
  CHECK(choose_victims(need, all, 10) == std::vector{ticket_id{2}});
}

TEST_CASE("parked pages fill memory first, then the disk, then nothing", "[actors]") {
  park_ledger park({10, 5});
  CHECK(park.take(8) == park_place::memory);
  CHECK(park.take(3) == park_place::disk);
  CHECK(park.take(2) == park_place::memory);
  CHECK(park.take(3) == std::nullopt);
  CHECK(park.memory_pages() == 10);
  CHECK(park.disk_pages() == 3);
  park.give_back(park_place::memory, 8);
  CHECK(park.take(3) == park_place::memory);
}
