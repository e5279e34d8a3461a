// What every op needs: the kernels in use and the threads to run them on.
#pragma once

#include "compute/arena.hpp"
#include "compute/kernels.hpp"

namespace quire {

/// Travels by reference through every forward pass; owns nothing.
struct compute_context {
  const kernel_table* kernels = nullptr;
  arena* threads = nullptr;
  /// Only kernels whose result for a row is the same, bit for bit, however many rows are computed with
  /// it. Without it the products may choose other kernels for many rows than for few.
  bool row_independent = false;
};

}  // namespace quire
