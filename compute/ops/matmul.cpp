#include "compute/ops/matmul.hpp"

#include <algorithm>
#include <cstdlib>

#include "compute/kernel_table.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"
#include "core/check.hpp"

namespace quire {

namespace {

// Rough cycles, to size chunks: a region pays when each chunk outlasts the hand-over to a worker.
constexpr std::size_t chunk_cycles = 6000;
constexpr std::size_t chunks_per_thread = 6;
constexpr std::size_t unpack_cycles = 32;   // per panel and 32 inputs
constexpr std::size_t row_cycles = 6;       // per panel, 32 inputs and row
constexpr std::size_t quantize_cycles = 16; // per row and 32 inputs
// Panels that are used for all rows before the next ones: they and a group of rows stay in the cache.
constexpr std::size_t tile_bytes = 512 * 1024;

constexpr std::size_t divide_up(std::size_t a, std::size_t b) noexcept { return (a + b - 1) / b; }

/// Returns how many chunks work of `cycles` is worth on the context's threads.
std::size_t worthwhile_chunks(const compute_context& context, std::size_t cycles) noexcept {
  const std::size_t threads = context.threads->num_threads();
  if (threads == 1) return 1;
  return std::clamp<std::size_t>(cycles / chunk_cycles, 1, threads * chunks_per_thread);
}

/// The split of one matmul: chunks of panels (of all targets in a row) times chunks of row groups.
struct split {
  std::size_t num_panels = 0;
  std::size_t num_groups = 0;
  std::size_t panel_chunks = 0;
  std::size_t row_chunks = 0;
};

std::size_t panels_of(const matmul_target& target) noexcept {
  return divide_up(target.weights->rows(), panel_outputs);
}

split plan(const compute_context& context, const activations& x,
           std::span<const matmul_target> targets) noexcept {
  split s;
  for (const matmul_target& target : targets) s.num_panels += panels_of(target);
  s.num_groups = divide_up(x.num_rows(), group_rows);
  const std::size_t panel_cycles = divide_up(x.cols(), code_block) *
                                   (s.num_groups * unpack_cycles + x.num_rows() * row_cycles);
  const std::size_t chunks = worthwhile_chunks(context, s.num_panels * panel_cycles);
  s.panel_chunks = std::min(chunks, s.num_panels);
  s.row_chunks = std::min(divide_up(chunks, s.panel_chunks), s.num_groups);
  return s;
}

/// Multiplies row groups [first_group, last_group) with panels [first, last) of one target.
void multiply(const compute_context& context, const activations& x, const matmul_target& target,
              std::size_t first, std::size_t last, std::size_t first_group,
              std::size_t last_group) noexcept {
  const packed_matrix& weights = *target.weights;
  const auto kernel = context.kernels->matmul->product[static_cast<std::size_t>(weights.type())];
  const std::size_t panel_bytes = panel_layout_of(weights.type(), weights.cols()).panel_bytes;
  const std::size_t tile = std::max<std::size_t>(1, tile_bytes / panel_bytes);
  matmul_task task;
  task.panel_bytes = panel_bytes;
  task.cols = weights.cols();
  task.x_stride = x.f32_stride;
  task.out_stride = target.stride;
  task.add = target.add;
  for (std::size_t panel = first; panel < last; panel += tile) {
    task.panels = weights.data() + panel * panel_bytes;
    task.num_panels = std::min(tile, last - panel);
    task.num_outputs =
        std::min(task.num_panels * panel_outputs, weights.rows() - panel * panel_outputs);
    for (std::size_t group = first_group; group < last_group; ++group) {
      const std::size_t row = group * group_rows;
      task.num_rows = std::min(group_rows, x.num_rows() - row);
      task.x_q8 = x.q8 == nullptr ? nullptr : x.q8 + group * group_bytes(group_rows, x.cols());
      task.x_f32 = x.f32 + row * x.f32_stride;
      task.out = target.out + row * target.stride + panel * panel_outputs;
      kernel(task);
    }
  }
}

/// Encodes group `group` of x.
void quantize_group(const matmul_kernels& kernels, const float* x, std::size_t stride,
                    std::size_t num_rows, std::size_t cols, std::size_t group,
                    std::byte* groups) noexcept {
  const std::size_t row = group * group_rows;
  kernels.quantize(x + row * stride, stride, std::min(group_rows, num_rows - row), cols,
                   groups + group * group_bytes(group_rows, cols));
}

/// Runs body(group) for all groups of 16 rows.
template <class Body>
void for_each_group(const compute_context& context, std::size_t num_rows, std::size_t cols,
                    Body&& body) {
  const std::size_t num_groups = divide_up(num_rows, group_rows);
  const std::size_t cycles = num_rows * divide_up(cols, block_cols) * quantize_cycles;
  const std::size_t chunks = std::min(worthwhile_chunks(context, cycles), num_groups);
  context.threads->parallel(chunks, [&](std::size_t chunk) {
    const std::size_t end = (chunk + 1) * num_groups / chunks;
    for (std::size_t group = chunk * num_groups / chunks; group < end; ++group) body(group);
  });
}

}  // namespace

void activations::free_aligned::operator()(std::byte* p) const noexcept { std::free(p); }

std::byte* activations::reserve(std::size_t num_rows, std::size_t cols) {
  num_rows_ = num_rows;
  cols_ = cols;
  q8 = nullptr;
  if (cols % block_cols != 0) return nullptr;  // no quantized matrix has such a width
  const std::size_t bytes = divide_up(num_rows, group_rows) * group_bytes(group_rows, cols);
  if (bytes > storage_bytes_) {
    storage_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
    QUIRE_CHECK(storage_ != nullptr, "no memory for activations");
    storage_bytes_ = bytes;
  }
  q8 = storage_.get();
  return storage_.get();
}

void activations::prepare(const compute_context& context, const float* x, std::size_t num_rows,
                          std::size_t cols, std::size_t stride) {
  std::byte* groups = reserve(num_rows, cols);
  f32 = x;
  f32_stride = stride;
  if (groups == nullptr) return;
  for_each_group(context, num_rows, cols, [&](std::size_t group) {
    quantize_group(*context.kernels->matmul, x, stride, num_rows, cols, group, groups);
  });
}

void activations::prepare_rmsnorm(const compute_context& context, const float* x,
                                  std::size_t num_rows, std::size_t cols,
                                  std::span<const float> weight, float epsilon,
                                  float* normalized) {
  QUIRE_CHECK(weight.size() == cols, "prepare_rmsnorm: weight and row differ in length");
  std::byte* groups = reserve(num_rows, cols);
  f32 = normalized;
  f32_stride = cols;
  const matmul_kernels& kernels = *context.kernels->matmul;
  for_each_group(context, num_rows, cols, [&](std::size_t group) {
    const std::size_t end = std::min(num_rows, (group + 1) * group_rows);
    for (std::size_t row = group * group_rows; row < end; ++row)
      kernels.normalize(x + row * cols, weight.data(), epsilon, cols, normalized + row * cols);
    if (groups != nullptr)
      quantize_group(kernels, normalized, cols, num_rows, cols, group, groups);
  });
}

void matmul(const compute_context& context, const activations& x,
            std::span<const matmul_target> targets) {
  if (x.num_rows() == 0 || targets.empty()) return;
  for (const matmul_target& target : targets) {
    QUIRE_CHECK(target.weights->cols() == x.cols(), "matmul: activations of another width");
    QUIRE_CHECK(x.q8 != nullptr || is_float(target.weights->type()),
                "matmul: activations were not quantized");
  }
  const split s = plan(context, x, targets);
  context.threads->parallel(s.panel_chunks * s.row_chunks, [&](std::size_t chunk) {
    const std::size_t part = chunk / s.row_chunks;
    const std::size_t rows = chunk % s.row_chunks;
    const std::size_t first_group = rows * s.num_groups / s.row_chunks;
    const std::size_t last_group = (rows + 1) * s.num_groups / s.row_chunks;
    const std::size_t first = part * s.num_panels / s.panel_chunks;
    const std::size_t last = (part + 1) * s.num_panels / s.panel_chunks;
    std::size_t begin = 0;  // the panel of the concatenation where the target begins
    for (const matmul_target& target : targets) {
      const std::size_t end = begin + panels_of(target);
      if (first < end && last > begin)
        multiply(context, x, target, std::max(first, begin) - begin, std::min(last, end) - begin,
                 first_group, last_group);
      begin = end;
    }
  });
}

}  // namespace quire
