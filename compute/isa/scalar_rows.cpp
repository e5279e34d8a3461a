// The oracle of the row kernels: the formulas as they are written in the papers.
#include <cmath>

#include "compute/row_kernels.hpp"

namespace quire {
namespace {

void rmsnorm(const float* x, const float* weight, std::size_t n, float epsilon,
             float* out) noexcept {
  double sum = 0.0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);
  const auto factor = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon)));
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

void rotate(float& first, float& second, float cosine, float sine) noexcept {
  const float a = first;
  const float b = second;
  first = a * cosine - b * sine;
  second = b * cosine + a * sine;
}

void rotate_adjacent(float* x, const float* cosines, const float* sines, std::size_t dim) noexcept {
  for (std::size_t i = 0; i < dim / 2; ++i) rotate(x[2 * i], x[2 * i + 1], cosines[i], sines[i]);
}

void rotate_halves(float* x, const float* cosines, const float* sines, std::size_t dim) noexcept {
  for (std::size_t i = 0; i < dim / 2; ++i) rotate(x[i], x[i + dim / 2], cosines[i], sines[i]);
}

void gate_silu(const float* gate, const float* up, std::size_t n, float* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void gate_gelu_tanh(const float* gate, const float* up, std::size_t n, float* out) noexcept {
  constexpr float sqrt_2_over_pi = 0.7978845608f;
  for (std::size_t i = 0; i < n; ++i) {
    const float x = gate[i];
    const float inner = sqrt_2_over_pi * (x + 0.044715f * x * x * x);
    out[i] = 0.5f * x * (1.0f + std::tanh(inner)) * up[i];
  }
}

void add(float* x, const float* y, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) x[i] += y[i];
}

}  // namespace

const row_kernels scalar_rows{
    .rmsnorm = rmsnorm,
    .rotate_adjacent = rotate_adjacent,
    .rotate_halves = rotate_halves,
    .gate_silu = gate_silu,
    .gate_gelu_tanh = gate_gelu_tanh,
    .add = add,
};

}  // namespace quire
