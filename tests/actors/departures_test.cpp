#include "actors/departures.hpp"

#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("without experience nobody knows when a sequence ends", "[actors]") {
  departures seen;
  CHECK_FALSE(seen.expect(10));
  seen.ended(5, 10);
  CHECK_FALSE(seen.expect(10));
}

TEST_CASE("a sequence is expected to take its share of what it may produce", "[actors]") {
  departures seen;
  for (int i = 0; i < 100; ++i) seen.stepped(0.02);
  CHECK(seen.expect(50).value() == Approx(1.0));
  for (int i = 0; i < 100; ++i) seen.ended(25, 100);
  CHECK(seen.expect(40).value() == Approx(0.2).epsilon(0.01));
  CHECK(seen.expect(1).value() == Approx(0.02));  // never less than a step
}
