// Batched products of activation rows with packed weights.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "compute/context.hpp"
#include "compute/packed_matrix.hpp"

namespace quire {

/// The matrices that activations will be multiplied with; none named: any may come.
using consumers = std::span<const packed_matrix* const>;

/// Activation rows prepared once for any number of matrices, in the forms that the kernels take for
/// so many rows: f32, int8 with a scale and a sum per 32 values, bfloat16. Keeps its memory between
/// uses.
class activations {
 public:
  /// Prepares x, (num_rows, cols) row-major with `stride` floats between rows. The f32 rows are
  /// referenced, not copied: they must live until the products are done. Runs in parallel when
  /// there are enough rows to be worth it.
  void prepare(const compute_context& context, const float* x, std::size_t num_rows,
               std::size_t cols, std::size_t stride, consumers weights = {});

  /// The same for RMS-normalized rows: prepares x[r] / rms(x[r]) * weight in one pass, writing the
  /// f32 rows to `normalized` (num_rows, cols), tightly packed. (RMSNorm: Zhang and Sennrich 2019.)
  void prepare_rmsnorm(const compute_context& context, const float* x, std::size_t num_rows,
                       std::size_t cols, std::span<const float> weight, float epsilon,
                       float* normalized, consumers weights = {});

  std::size_t num_rows() const noexcept { return num_rows_; }
  std::size_t cols() const noexcept { return cols_; }

  // The prepared forms, for the kernels.
  const float* f32 = nullptr;  // (num_rows, cols), stride f32_stride
  std::size_t f32_stride = 0;
  // Groups of 16 rows, layout: compute/matmul_kernels.hpp; null where no kernel takes them.
  const std::byte* q8 = nullptr;
  const std::byte* bf16 = nullptr;

 private:
  struct free_aligned {
    void operator()(std::byte* p) const noexcept;
  };
  void reserve(const compute_context& context, std::size_t num_rows, std::size_t cols,
               consumers weights);
  void encode_group(const compute_context& context, std::size_t group) noexcept;

  std::size_t num_rows_ = 0;
  std::size_t cols_ = 0;
  std::byte* q8_groups_ = nullptr;  // q8 and bf16, to write
  std::byte* bf16_groups_ = nullptr;
  std::unique_ptr<std::byte[], free_aligned> storage_;
  std::size_t storage_bytes_ = 0;
};

/// One product of a group: out[r][n] = sum_k x[r][k] * weights[n][k].
struct matmul_target {
  const packed_matrix* weights = nullptr;  // (rows = n, cols = x.cols())
  float* out = nullptr;  // (x.num_rows(), weights->rows()) with `stride` between rows
  std::size_t stride = 0;
  bool add = false;  // add to what `out` holds (residuals) instead of storing
};

/// Computes all targets from the same activations in one parallel region (fused Q, K, V; fused gate
/// and up). Work is split over columns of the output, and over rows when there are many; the value
/// of each element does not depend on the split or on the other rows of the batch. With
/// context.row_independent it does not depend on their number either; without, it may, where an ISA
/// has other kernels for many rows than for few (compute/matmul_kernels.hpp). The context is the
/// one that the activations were prepared with.
void matmul(const compute_context& context, const activations& x,
            std::span<const matmul_target> targets);

/// Returns the part of `weights` with whose products `thread` of `num_threads` begins when they are
/// computed together: one piece of memory, its share or the beginning of that. For arena::expect().
std::span<const std::byte> first_weights_of(std::size_t thread, std::size_t num_threads,
                                            consumers weights) noexcept;

/// Returns whether products of so many rows dequantize these weights first: then the rows should
/// not be cut, because that would be done again for each part.
bool dequantizes_first(const compute_context& context, const packed_matrix& weights,
                       std::size_t num_rows) noexcept;

}  // namespace quire
