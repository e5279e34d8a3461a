#include "compute/kernels.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "compute/attention_kernels.hpp"
#include "compute/kernel_table.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/row_kernels.hpp"

namespace quire {

namespace {

bool has_avx2() noexcept {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avx512_vnni() noexcept {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

constexpr kernel_table avx512_vnni{.name = "avx512_vnni", .runnable = has_avx512_vnni,
                                   .matmul = &avx512_vnni_matmul,
                                   .rows = &avx512_rows,
                                   .attention = &avx512_attention};
constexpr kernel_table avx2{.name = "avx2",
                            .runnable = has_avx2,
                            .matmul = &avx2_matmul,
                            .rows = &avx2_rows,
                            .attention = &avx2_attention};
constexpr kernel_table scalar{.name = "scalar",
                              .runnable = []() noexcept { return true; },
                              .matmul = &scalar_matmul,
                              .rows = &scalar_rows,
                              .attention = &scalar_attention};

constexpr std::array<const kernel_table*, 3> compiled{&avx512_vnni, &avx2, &scalar};

std::string names(std::span<const kernel_table* const> tables) {
  std::string list;
  for (const kernel_table* table : tables) {
    if (!list.empty()) list += ", ";
    list += table->name;
  }
  return list;
}

}  // namespace

std::span<const kernel_table* const> compiled_kernels() noexcept { return compiled; }

std::span<const kernel_table* const> runnable_kernels() noexcept {
  struct selection {
    std::array<const kernel_table*, compiled.size()> tables{};
    std::size_t size = 0;
  };
  static const selection found = [] {
    selection s;
    for (const kernel_table* table : compiled)
      if (table->runnable()) s.tables[s.size++] = table;
    return s;
  }();
  return {found.tables.data(), found.size};
}

result<const kernel_table*> select_kernels(std::string_view name) {
  std::string source = "compute.isa";
  std::string wanted(name);
  if (wanted == "auto" || wanted.empty()) {
    const char* forced = std::getenv("QUIRE_ISA");
    if (forced != nullptr && *forced != '\0') {
      wanted = forced;
      source = "QUIRE_ISA";
    }
  }
  const auto runnable = runnable_kernels();
  if (wanted == "auto" || wanted.empty()) return runnable.front();
  const auto by_name = [&](const kernel_table* table) { return table->name == wanted; };
  if (const auto it = std::ranges::find_if(runnable, by_name); it != runnable.end()) return *it;
  const bool known = std::ranges::any_of(compiled, by_name);
  return fail(errc::invalid_argument,
              source + ": " + (known ? "this machine cannot run ISA '" : "there is no ISA '") +
                  wanted + "'; choose auto or one of: " + names(runnable));
}

std::string_view isa_name(const kernel_table& kernels) noexcept { return kernels.name; }

}  // namespace quire
