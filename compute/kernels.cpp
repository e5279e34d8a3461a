#include "compute/kernels.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "compute/attention_kernels.hpp"
#include "compute/cpu_features.hpp"
#include "compute/kernel_table.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/row_kernels.hpp"

namespace quire {

namespace {

std::string missing_avx2() {
  return missing_features({"avx2", "fma", "f16c"});
}

std::string missing_avx_vnni() {
  return missing_features({"avx2", "fma", "f16c", "avx_vnni"});
}

std::string missing_avx512_vnni() {
  return missing_features(
      {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"});
}

std::string missing_avx512_bf16() {
  return missing_features({"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl",
                           "avx512_vnni", "avx512_bf16"});
}

std::string missing_tiles() {
  std::string missing = missing_avx512_bf16();
  return missing.empty() ? missing_amx() : missing;
}

constexpr kernel_table amx{.name = "amx",
                           .missing = missing_tiles,
                           .matmul = &amx_matmul,
                           .rows = &avx512_rows,
                           .attention = &avx512_attention};
constexpr kernel_table avx512_bf16{.name = "avx512_bf16",
                                   .missing = missing_avx512_bf16,
                                   .matmul = &avx512_bf16_matmul,
                                   .rows = &avx512_rows,
                                   .attention = &avx512_attention};
constexpr kernel_table avx512_vnni{.name = "avx512_vnni",
                                   .missing = missing_avx512_vnni,
                                   .matmul = &avx512_vnni_matmul,
                                   .rows = &avx512_rows,
                                   .attention = &avx512_attention};
constexpr kernel_table avx_vnni{.name = "avx_vnni",
                                .missing = missing_avx_vnni,
                                .matmul = &avx_vnni_matmul,
                                .rows = &avx2_rows,
                                .attention = &avx2_attention};
constexpr kernel_table avx2{.name = "avx2",
                            .missing = missing_avx2,
                            .matmul = &avx2_matmul,
                            .rows = &avx2_rows,
                            .attention = &avx2_attention};
constexpr kernel_table scalar{.name = "scalar",
                              .missing = [] { return std::string(); },
                              .matmul = &scalar_matmul,
                              .rows = &scalar_rows,
                              .attention = &scalar_attention};

constexpr std::array compiled{&amx, &avx512_bf16, &avx512_vnni, &avx_vnni, &avx2, &scalar};

constexpr kernel_table amx_software{.name = "amx_software",
                                    .missing = missing_avx512_bf16,
                                    .matmul = &amx_software_matmul,
                                    .rows = &avx512_rows,
                                    .attention = &avx512_attention};
constexpr kernel_table amx_plain{.name = "amx_plain",
                                 .missing = [] { return std::string(); },
                                 .matmul = &amx_plain_matmul,
                                 .rows = &scalar_rows,
                                 .attention = &scalar_attention};

constexpr std::array emulated{&amx_software, &amx_plain};

std::string names(std::span<const kernel_table* const> tables) {
  std::string list;
  for (const kernel_table* table : tables) {
    if (!list.empty()) list += ", ";
    list += table->name;
  }
  return list;
}

}  // namespace

std::span<const kernel_table* const> compiled_kernels() noexcept {
  return compiled;
}

std::span<const kernel_table* const> emulated_kernels() noexcept {
  return emulated;
}

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
  std::string problem = source + ": there is no ISA '" + wanted + "'";
  for (const auto tables : {compiled_kernels(), emulated_kernels()})
    for (const kernel_table* table : tables) {
      if (table->name != wanted) continue;
      const std::string missing = table->missing();
      if (missing.empty()) return table;
      problem = source + ": this machine cannot run ISA '" + wanted + "': " + missing;
    }
  return fail(errc::invalid_argument, problem + "; choose auto or one of: " + names(runnable));
}

std::string_view isa_name(const kernel_table& kernels) noexcept {
  return kernels.name;
}

}  // namespace quire
