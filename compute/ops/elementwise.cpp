#include "compute/ops/elementwise.hpp"

#include <algorithm>

#include "compute/kernel_table.hpp"
#include "compute/row_kernels.hpp"
#include "core/check.hpp"

namespace quire {
namespace {

// Values that one thread handles in about two microseconds: less is not worth a second thread.
constexpr std::size_t values_per_task = 32768;
// The same for gates, which take an exponential per value.
constexpr std::size_t gates_per_task = 8192;

// Calls body(begin, end) for ranges that cover [0, n), each of about `per_task` items or more, with
// ends at multiples of `grain`.
template <class Body>
void split(const compute_context& context, std::size_t n, std::size_t per_task, std::size_t grain,
           Body&& body) {
  constexpr std::size_t most_tasks = 64;
  const std::size_t wanted =
      std::clamp<std::size_t>(n / std::max<std::size_t>(1, per_task), 1, most_tasks);
  const std::size_t share = (n / wanted + grain) / grain * grain;
  context.threads->parallel((n + share - 1) / share, [&](std::size_t task) {
    body(task * share, std::min(n, (task + 1) * share));
  });
}

}  // namespace

void rmsnorm(const compute_context& context, const float* x, std::size_t num_rows,
             std::size_t stride, std::span<const float> weight, float epsilon, float* out,
             std::size_t out_stride) {
  const auto kernel = context.kernels->rows->rmsnorm;
  const std::size_t n = weight.size();
  QUIRE_CHECK(n != 0, "rmsnorm needs weights");
  split(context, num_rows, values_per_task / n, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      kernel(x + r * stride, weight.data(), n, epsilon, out + r * out_stride);
  });
}

void rope(const compute_context& context, const rope_table& table, float* x, std::size_t num_rows,
          std::size_t stride, std::size_t num_heads, std::size_t head_dim,
          std::span<const std::uint32_t> positions) {
  QUIRE_CHECK(table.dim % 2 == 0 && table.dim <= head_dim, "rope rotates pairs within a head");
  QUIRE_CHECK(positions.size() == num_rows, "rope needs a position per row");
  const std::size_t angles = table.dim / 2;
  const row_kernels& kernels = *context.kernels->rows;
  const auto kernel =
      table.pairs == rope_pairs::halves ? kernels.rotate_halves : kernels.rotate_adjacent;
  const std::size_t values = std::max<std::size_t>(1, num_heads * table.dim);
  split(context, num_rows, values_per_task / values, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const std::size_t at = positions[r] * angles;
      QUIRE_CHECK(at + angles <= table.cosines.size() && at + angles <= table.sines.size(),
                  "a position lies outside the rope table");
      for (std::size_t h = 0; h < num_heads; ++h)
        kernel(x + r * stride + h * head_dim, table.cosines.data() + at, table.sines.data() + at,
               table.dim);
    }
  });
}

void gated(const compute_context& context, gate_function function, const float* gate,
           const float* up, std::size_t num_rows, std::size_t cols, float* out) {
  const row_kernels& kernels = *context.kernels->rows;
  const auto kernel = function == gate_function::silu ? kernels.gate_silu : kernels.gate_gelu_tanh;
  split(context, num_rows * cols, gates_per_task, 64, [&](std::size_t begin, std::size_t end) {
    kernel(gate + begin, up + begin, end - begin, out + begin);
  });
}

void add(const compute_context& context, float* x, const float* y, std::size_t n) {
  const auto kernel = context.kernels->rows->add;
  split(context, n, values_per_task, 64,
        [&](std::size_t begin, std::size_t end) { kernel(x + begin, y + begin, end - begin); });
}

}  // namespace quire
