// Row-wise operations between the matrix products: norms, rotary embedding, gates, residuals.
// All split over rows on the arena when there is enough work to pay for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "compute/context.hpp"

namespace quire {

/// x[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight, for rows of weight.size() values with
/// `stride` between them; `out` may be `x`. (Zhang and Sennrich 2019.)
void rmsnorm(const compute_context& context, const float* x, std::size_t num_rows,
             std::size_t stride, std::span<const float> weight, float epsilon, float* out,
             std::size_t out_stride);

/// How the two values of a rotated pair lie: (2i, 2i+1), or (i, i + dim/2).
enum class rope_pairs : std::uint8_t { adjacent, halves };

/// Cosines and sines of every position: (num_positions, dim / 2) each. (RoFormer, Su et al. 2021.)
struct rope_table {
  std::span<const float> cosines;
  std::span<const float> sines;
  std::size_t dim = 0;  ///< rotated values per head; those past dim stay as they are
  rope_pairs pairs = rope_pairs::adjacent;
};

/// Rotates num_heads heads of head_dim values in each row in place; positions[r] picks the angles.
void rope(const compute_context& context, const rope_table& table, float* x, std::size_t num_rows,
          std::size_t stride, std::size_t num_heads, std::size_t head_dim,
          std::span<const std::uint32_t> positions);

enum class gate_function : std::uint8_t { silu, gelu_tanh };

/// out[r][i] = f(gate[r][i]) * up[r][i], rows of `cols` values tightly packed; out may be gate.
void gated(const compute_context& context, gate_function function, const float* gate,
           const float* up, std::size_t num_rows, std::size_t cols, float* out);

/// x[i] += y[i] for n values.
void add(const compute_context& context, float* x, const float* y, std::size_t n);

}  // namespace quire
