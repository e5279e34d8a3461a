// The kernels of one instruction set, behind one table of function pointers.
//
// Every ISA is compiled into the one binary, each in its own translation unit under a target
// pragma. `scalar` is the oracle that the others are tested against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/error.hpp"

namespace quire {

struct kernel_table;  // compute/kernel_table.hpp: what ops/ calls

/// Returns the tables compiled into this binary, best first; scalar is last.
std::span<const kernel_table* const> compiled_kernels() noexcept;

/// Returns those of compiled_kernels() that this machine can run, best first; never empty.
std::span<const kernel_table* const> runnable_kernels() noexcept;

/// Returns tables that run AMX's kernels over tiles in plain C++, slowly: "amx_software" on AVX-512
/// and "amx_plain" on any machine. For tests, and to see what AMX's arithmetic does to a model's
/// quality; never chosen unless named.
std::span<const kernel_table* const> emulated_kernels() noexcept;

/// Returns the table for a name: "auto" is the best runnable one. The environment variable
/// QUIRE_ISA stands in for "auto". Errors: invalid_argument naming the choices, when the name is
/// unknown or the machine lacks that ISA, and then what it lacks.
result<const kernel_table*> select_kernels(std::string_view name);

/// Returns a table's name: "scalar", "avx2", "avx_vnni", "avx512_vnni", ...
std::string_view isa_name(const kernel_table& kernels) noexcept;

}  // namespace quire
