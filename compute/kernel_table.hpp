// What one instruction set offers: three parts, each a struct of function pointers.
//
// Kernels are noexcept, allocate nothing and take raw pointers and sizes; ops/ checks shapes and
// splits the work. A part is named by a pointer, so that an ISA that adds nothing to a part points
// to the best older one's.
#pragma once

#include <string>
#include <string_view>

namespace quire {

struct matmul_kernels;     // compute/matmul_kernels.hpp
struct row_kernels;        // compute/row_kernels.hpp
struct attention_kernels;  // compute/attention_kernels.hpp

/// The kernels of one ISA.
struct kernel_table {
  std::string_view name;     ///< as in QUIRE_ISA: "scalar", "avx2", "avx512_vnni"
  std::string (*missing)();  ///< what this machine lacks of what the kernels need; empty: nothing
  const matmul_kernels* matmul = nullptr;
  const row_kernels* rows = nullptr;
  const attention_kernels* attention = nullptr;

  /// Returns whether this machine has what the kernels need.
  bool runnable() const { return missing().empty(); }
};

}  // namespace quire
