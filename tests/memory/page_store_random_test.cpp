// Random operations on the store and on a naive model, contents and invariants compared after each.
// QUIRE_TEST_SEED chooses other sequences, QUIRE_TEST_STEPS another length.
#include <cstdlib>
#include <iostream>

#include "tests/memory/page_store_model.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

#ifdef QUIRE_SLOW_TESTS
constexpr std::uint32_t default_steps = 1000000;
#else
constexpr std::uint32_t default_steps = 50000;
#endif

std::uint32_t number_from(const char* variable, std::uint32_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

/// Runs all steps in stretches, each with a store of another shape.
void run(const char* what, bool with_faults) {
  const std::uint32_t seed = number_from("QUIRE_TEST_SEED", 20261121);
  const std::uint32_t steps = number_from("QUIRE_TEST_STEPS", default_steps);
  constexpr std::uint32_t stretch = 10000;
  std::cout << what << ": seed " << seed << ", " << steps << " operations\n";
  std::uint64_t refusals = 0;
  std::uint64_t moves = 0;
  for (std::uint32_t done = 0, round = 0; done < steps; ++round) {
    const std::uint32_t pages = 8 + round * 7 % 57;
    const std::uint32_t page_tokens = 1 + round * 3 % 7;
    quire::testing::page_store_model model(seed + round, pages, page_tokens);
    for (std::uint32_t i = 0; i < stretch && done < steps; ++i, ++done) {
      const std::string problem = model.step(with_faults && i % 3 == 0);
      if (problem.empty()) continue;
      CAPTURE(seed, round, i, pages, page_tokens);
      FAIL(problem);
    }
    refusals += model.refusals();
    moves += model.moves();
  }
  std::cout << what << ": " << refusals << " refused, " << moves << " pages moved\n";
  REQUIRE(refusals > steps / 100);  // the run did reach the errors and the moves
  REQUIRE(moves > steps / 100);
}

}  // namespace

TEST_CASE("random operations keep contents and invariants", "[memory]") {
  run("random operations", false);
}

TEST_CASE("random operations without a free page are refused and change nothing", "[memory]") {
  run("random operations with faults", true);
}
