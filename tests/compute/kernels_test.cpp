// Expectations: the contract of compute/kernels.hpp.
#include "compute/kernels.hpp"

#include <cstdlib>
#include <string>

#include "compute/kernel_table.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

/// Sets QUIRE_ISA for one scope; an empty value unsets it.
class isa_variable {
 public:
  explicit isa_variable(const std::string& value) {
    if (const char* old = std::getenv("QUIRE_ISA")) old_ = old;
    set(value);
  }
  ~isa_variable() { set(old_); }
  isa_variable(const isa_variable&) = delete;
  isa_variable& operator=(const isa_variable&) = delete;

 private:
  static void set(const std::string& value) {
    if (value.empty())
      unsetenv("QUIRE_ISA");
    else
      setenv("QUIRE_ISA", value.c_str(), 1);
  }
  std::string old_;
};

}  // namespace

TEST_CASE("scalar is compiled, runnable and last", "[compute]") {
  REQUIRE(isa_name(*compiled_kernels().back()) == "scalar");
  REQUIRE(isa_name(*runnable_kernels().back()) == "scalar");
}

TEST_CASE("auto selects the best runnable ISA", "[compute]") {
  const isa_variable unset("");
  REQUIRE(select_kernels("auto").value() == runnable_kernels().front());
}

TEST_CASE("every runnable ISA can be selected by its name", "[compute]") {
  for (const kernel_table* table : runnable_kernels())
    REQUIRE(select_kernels(isa_name(*table)).value() == table);
}

TEST_CASE("QUIRE_ISA stands in for auto but not for a configured name", "[compute]") {
  const isa_variable forced("scalar");
  REQUIRE(isa_name(*select_kernels("auto").value()) == "scalar");
  for (const kernel_table* table : runnable_kernels())
    REQUIRE(select_kernels(isa_name(*table)).value() == table);
}

TEST_CASE("an unknown or missing ISA is an error that names the choices", "[compute]") {
  const auto unknown = select_kernels("mmx");
  REQUIRE(!unknown);
  REQUIRE(unknown.error().code == errc::invalid_argument);
  REQUIRE(unknown.error().message.find("mmx") != std::string::npos);
  REQUIRE(unknown.error().message.find("scalar") != std::string::npos);

  const isa_variable forced("neon");
  const auto missing = select_kernels("auto");
  REQUIRE(!missing);
  REQUIRE(missing.error().message.find("QUIRE_ISA") != std::string::npos);

  for (const kernel_table* table : compiled_kernels())
    if (!table->runnable()) REQUIRE(!select_kernels(isa_name(*table)));
}
