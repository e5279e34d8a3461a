#include "core/error.hpp"

#include <set>

#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("every error code has a name of its own and sane mappings", "[core]") {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < num_errc; ++i) {
    const auto code = static_cast<errc>(i);
    REQUIRE(names.insert(errc_name(code)).second);
    REQUIRE(http_status(code) >= 400);
    REQUIRE(http_status(code) < 600);
    REQUIRE((exit_code(code) == 1 || exit_code(code) == 2));
  }
  REQUIRE(errc_name(errc::internal) == "internal");
  REQUIRE(http_status(errc::queue_full) == 429);
}
