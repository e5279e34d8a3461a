// The row-wise part of the kernel table: norms, rotary embedding, gates and sums of one row.
#pragma once

#include <cstddef>

namespace quire {

/// Kernels of one ISA over one row. Any length, no alignment needed. What a value becomes does not
/// depend on where in a row it lies, but for the sum of squares of rmsnorm.
struct row_kernels {
  /// out = x / sqrt(mean(x^2) + epsilon) * weight, n values; out may be x.
  void (*rmsnorm)(const float* x, const float* weight, std::size_t n, float epsilon,
                  float* out) noexcept;
  /// Rotates the pairs (2i, 2i+1) of `dim` values (even) by angle i: dim / 2 cosines and sines.
  void (*rotate_adjacent)(float* x, const float* cosines, const float* sines,
                          std::size_t dim) noexcept;
  /// Rotates the pairs (i, i + dim/2).
  void (*rotate_halves)(float* x, const float* cosines, const float* sines,
                        std::size_t dim) noexcept;
  /// out = gate / (1 + exp(-gate)) * up; out may be gate.
  void (*gate_silu)(const float* gate, const float* up, std::size_t n, float* out) noexcept;
  /// out = gelu(gate) * up with gelu by its tanh approximation; out may be gate.
  void (*gate_gelu_tanh)(const float* gate, const float* up, std::size_t n, float* out) noexcept;
  /// x += y.
  void (*add)(float* x, const float* y, std::size_t n) noexcept;
};

extern const row_kernels scalar_rows;
extern const row_kernels avx2_rows;
extern const row_kernels avx512_rows;

}  // namespace quire
