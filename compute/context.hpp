// What every op needs: the kernels in use and the threads to run them on.
#pragma once

#include "compute/arena.hpp"
#include "compute/kernels.hpp"

namespace quire {

/// Travels by reference through every forward pass; owns nothing.
struct compute_context {
  const kernel_table* kernels = nullptr;
  arena* threads = nullptr;
  /// Whether a row's values must be the same, bit by bit, whatever rows it is computed with: then
  /// no op chooses its kernel or its order of summation by the number of rows.
  bool row_independent = false;
};

}  // namespace quire
