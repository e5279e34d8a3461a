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
constexpr std::size_t last_chunk_cycles = 700;
constexpr std::size_t unpack_cycles = 32;        // per panel and 32 inputs
constexpr std::size_t row_cycles = 6;            // per panel, 32 inputs and row
constexpr std::size_t quantize_cycles = 16;      // per row and 32 inputs
constexpr std::size_t wide_unpack_cycles = 120;  // the same for wide products
constexpr std::size_t wide_row_cycles = 2;
// Panels that are used for all rows before the next ones: they and a group of rows stay in the
// cache.
constexpr std::size_t tile_bytes = 512 * 1024;

constexpr std::size_t divide_up(std::size_t a, std::size_t b) noexcept {
  return (a + b - 1) / b;
}

bool takes_wide(const compute_context& context, tensor_type type, std::size_t num_rows) noexcept {
  return uses_wide(*context.kernels->matmul, static_cast<std::size_t>(type), num_rows,
                   context.row_independent);
}

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
  std::size_t shares = 1;  // of panels; cut into as many chunks each
  bool pair_panels = false;

  /// Returns where chunk `part` of panels begins. Products of many rows take panels in pairs.
  std::size_t first_panel(std::size_t part) const noexcept {
    const std::size_t panel = cut(part);
    return pair_panels && part < panel_chunks ? panel / 2 * 2 : panel;
  }

 private:
  // A thread's share is cut in half, the second half too, and so on: few chunks, since each begins
  // with a wait for memory, but little to wait for at the end.
  std::size_t cut(std::size_t part) const noexcept {
    if (shares == 1) return part * num_panels / panel_chunks;
    const std::size_t per_share = panel_chunks / shares;
    const std::size_t share = part / per_share;
    if (share == shares) return num_panels;
    const std::size_t begin = share * num_panels / shares;
    const std::size_t end = (share + 1) * num_panels / shares;
    return end - ((end - begin) >> (part % per_share));
  }
};

std::size_t panels_of(const packed_matrix& weights) noexcept {
  return divide_up(weights.rows(), panel_outputs);
}
std::size_t panels_of(const matmul_target& target) noexcept {
  return panels_of(*target.weights);
}

split plan(const compute_context& context, const activations& x,
           std::span<const matmul_target> targets) noexcept {
  split s;
  s.num_groups = divide_up(x.num_rows(), group_rows);
  bool any_wide = false;
  std::size_t block_cycles = 0;  // of 32 inputs of all panels
  for (const matmul_target& target : targets) {
    const bool wide = takes_wide(context, target.weights->type(), x.num_rows());
    s.num_panels += panels_of(target);
    block_cycles +=
        panels_of(target) * (wide ? wide_unpack_cycles + x.num_rows() * wide_row_cycles
                                  : s.num_groups * unpack_cycles + x.num_rows() * row_cycles);
    any_wide |= wide;
  }
  s.pair_panels = x.num_rows() > group_rows;
  const std::size_t chunks =
      worthwhile_chunks(context, divide_up(x.cols(), code_block) * block_cycles);
  s.panel_chunks = std::min(chunks, s.num_panels);
  s.row_chunks = std::min(divide_up(chunks, s.panel_chunks), s.num_groups);
  if (any_wide) s.row_chunks = 1;  // each chunk of rows would dequantize the weights again
  if (s.row_chunks > 1 || s.panel_chunks < context.threads->num_threads()) return s;
  s.shares = context.threads->num_threads();
  const std::size_t share_panels = s.num_panels / s.shares;
  const std::size_t share_cycles = divide_up(x.cols(), code_block) * block_cycles / s.shares;
  std::size_t halvings = 0;
  while (share_panels >> (halvings + 1) != 0 && share_cycles >> (halvings + 1) > last_chunk_cycles)
    ++halvings;
  s.panel_chunks = s.shares * (halvings + 1);
  return s;
}

/// Multiplies rows of `task` with panels of a matrix in one call.
void run_panels(matmul_kernels::product_function kernel, matmul_task& task,
                const packed_matrix& weights, const matmul_target& target, std::size_t row,
                std::size_t panel, std::size_t num_panels) noexcept {
  task.panels = weights.data() + panel * task.panel_bytes;
  task.num_panels = num_panels;
  task.num_outputs = std::min(num_panels * panel_outputs, weights.rows() - panel * panel_outputs);
  task.out = target.out + row * target.stride + panel * panel_outputs;
  kernel(task);
}

/// Multiplies row groups [first_group, last_group) with panels [first, last) of one target.
void multiply(const compute_context& context, const activations& x, const matmul_target& target,
              std::size_t first, std::size_t last, std::size_t first_group,
              std::size_t last_group) noexcept {
  const packed_matrix& weights = *target.weights;
  const matmul_kernels& kernels = *context.kernels->matmul;
  const auto type = static_cast<std::size_t>(weights.type());
  const std::size_t panel_bytes = panel_layout_of(weights.type(), weights.cols()).panel_bytes;
  matmul_task task;
  task.panel_bytes = panel_bytes;
  task.cols = weights.cols();
  task.x_stride = x.f32_stride;
  task.out_stride = target.stride;
  task.add = target.add;
  const std::size_t first_row = first_group * group_rows;
  const std::size_t num_rows = std::min(last_group * group_rows, x.num_rows()) - first_row;
  const bool wide = takes_wide(context, weights.type(), x.num_rows());
  if (wide || (kernels.long_product[type] != nullptr && num_rows >= group_rows &&
               num_rows * x.cols() >= kernels.long_values)) {
    task.num_rows = num_rows;
    if (wide)
      task.x_bf16 = x.bf16 + first_group * bf16_group_bytes(x.cols());
    else
      task.x_q8 = x.q8 + first_group * group_bytes(group_rows, x.cols());
    return run_panels(wide ? kernels.wide_product[type] : kernels.long_product[type], task, weights,
                      target, first_row, first, last - first);
  }
  const std::size_t tile = std::max<std::size_t>(1, tile_bytes / panel_bytes);
  for (std::size_t panel = first; panel < last; panel += tile)
    for (std::size_t group = first_group; group < last_group; ++group) {
      const std::size_t row = group * group_rows;
      task.num_rows = std::min(group_rows, x.num_rows() - row);
      task.x_q8 = x.q8 == nullptr ? nullptr : x.q8 + group * group_bytes(group_rows, x.cols());
      task.x_f32 = x.f32 + row * x.f32_stride;
      run_panels(kernels.product[type], task, weights, target, row, panel,
                 std::min(tile, last - panel));
    }
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

/// The forms of activations that kernels take for a number of rows.
struct needed_forms {
  bool q8 = false;
  bool bf16 = false;
};

needed_forms forms_for(const compute_context& context, std::size_t num_rows,
                       consumers weights) noexcept {
  needed_forms needed;
  const auto note = [&](tensor_type type) {
    if (takes_wide(context, type, num_rows))
      needed.bf16 = true;
    else if (!is_float(type))
      needed.q8 = true;
  };
  if (weights.empty())
    for (const tensor_type_traits& traits : tensor_types()) note(traits.type);
  for (const packed_matrix* matrix : weights) note(matrix->type());
  return needed;
}

}  // namespace

void activations::free_aligned::operator()(std::byte* p) const noexcept {
  std::free(p);
}

void activations::reserve(const compute_context& context, std::size_t num_rows, std::size_t cols,
                          consumers weights) {
  num_rows_ = num_rows;
  cols_ = cols;
  needed_forms needed = forms_for(context, num_rows, weights);
  if (cols % block_cols != 0) needed.q8 = false;  // no quantized matrix has such a width
  const std::size_t num_groups = divide_up(num_rows, group_rows);
  const auto aligned = [](std::size_t bytes) { return divide_up(bytes, 64) * 64; };
  const std::size_t q8_bytes = needed.q8 ? aligned(num_groups * group_bytes(group_rows, cols)) : 0;
  const std::size_t bytes = q8_bytes + (needed.bf16 ? num_groups * bf16_group_bytes(cols) : 0);
  if (bytes > storage_bytes_) {
    storage_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
    QUIRE_CHECK(storage_ != nullptr, "no memory for activations");
    storage_bytes_ = bytes;
  }
  q8 = q8_groups_ = needed.q8 ? storage_.get() : nullptr;
  bf16 = bf16_groups_ = needed.bf16 ? storage_.get() + q8_bytes : nullptr;
}

void activations::encode_group(const compute_context& context, std::size_t group) noexcept {
  const matmul_kernels& kernels = *context.kernels->matmul;
  const std::size_t row = group * group_rows;
  const std::size_t rows = std::min(group_rows, num_rows_ - row);
  const float* x = f32 + row * f32_stride;
  if (q8_groups_ != nullptr)
    kernels.quantize(x, f32_stride, rows, cols_,
                     q8_groups_ + group * group_bytes(group_rows, cols_));
  if (bf16_groups_ != nullptr)
    kernels.round_bf16(x, f32_stride, rows, cols_, bf16_groups_ + group * bf16_group_bytes(cols_));
}

void activations::prepare(const compute_context& context, const float* x, std::size_t num_rows,
                          std::size_t cols, std::size_t stride, consumers weights) {
  reserve(context, num_rows, cols, weights);
  f32 = x;
  f32_stride = stride;
  if (q8 == nullptr && bf16 == nullptr) return;
  for_each_group(context, num_rows, cols, [&](std::size_t group) { encode_group(context, group); });
}

void activations::prepare_rmsnorm(const compute_context& context, const float* x,
                                  std::size_t num_rows, std::size_t cols,
                                  std::span<const float> weight, float epsilon, float* normalized,
                                  consumers weights) {
  QUIRE_CHECK(weight.size() == cols, "prepare_rmsnorm: weight and row differ in length");
  reserve(context, num_rows, cols, weights);
  f32 = normalized;
  f32_stride = cols;
  const matmul_kernels& kernels = *context.kernels->matmul;
  for_each_group(context, num_rows, cols, [&](std::size_t group) {
    const std::size_t end = std::min(num_rows, (group + 1) * group_rows);
    for (std::size_t row = group * group_rows; row < end; ++row)
      kernels.normalize(x + row * cols, weight.data(), epsilon, cols, normalized + row * cols);
    encode_group(context, group);
  });
}

void matmul(const compute_context& context, const activations& x,
            std::span<const matmul_target> targets) {
  if (x.num_rows() == 0 || targets.empty()) return;
  for (const matmul_target& target : targets) {
    QUIRE_CHECK(target.weights->cols() == x.cols(), "matmul: activations of another width");
    const tensor_type type = target.weights->type();
    const bool wide = takes_wide(context, type, x.num_rows());
    QUIRE_CHECK(wide ? x.bf16 != nullptr : x.q8 != nullptr || is_float(type),
                "matmul: activations were prepared for other kernels");
  }
  const split s = plan(context, x, targets);
  context.threads->parallel(s.panel_chunks * s.row_chunks, [&](std::size_t chunk) {
    const std::size_t part = chunk / s.row_chunks;
    const std::size_t rows = chunk % s.row_chunks;
    const std::size_t first_group = rows * s.num_groups / s.row_chunks;
    const std::size_t last_group = (rows + 1) * s.num_groups / s.row_chunks;
    const std::size_t first = s.first_panel(part);
    const std::size_t last = s.first_panel(part + 1);
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

std::span<const std::byte> first_weights_of(std::size_t thread, std::size_t num_threads,
                                            consumers weights) noexcept {
  std::size_t num_panels = 0;
  for (const packed_matrix* matrix : weights) num_panels += panels_of(*matrix);
  std::size_t first = thread * num_panels / num_threads;
  const std::size_t share = (thread + 1) * num_panels / num_threads - first;
  for (const packed_matrix* matrix : weights) {
    const std::size_t panels = panels_of(*matrix);
    if (first < panels) {
      const std::size_t bytes = panel_layout_of(matrix->type(), matrix->cols()).panel_bytes;
      return {matrix->data() + first * bytes, std::min(share, panels - first) * bytes};
    }
    first -= panels;
  }
  return {};
}

bool dequantizes_first(const compute_context& context, const packed_matrix& weights,
                       std::size_t num_rows) noexcept {
  return takes_wide(context, weights.type(), num_rows);
}

}  // namespace quire
