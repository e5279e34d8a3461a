// A weight matrix in the layout that the matmul kernels read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "compute/context.hpp"
#include "compute/tensor_type.hpp"
#include "compute/weight_memory.hpp"
#include "core/error.hpp"

namespace quire {

/// Holds rows() x cols() weights: out = W x, so rows are output features, cols input features.
/// Quantized types keep their file precision: nothing is requantized.
class packed_matrix {
 public:
  packed_matrix() = default;

  /// Packs a row-major matrix from file blocks, in parallel. cols must be a multiple of the type's
  /// block size. Errors: invalid_argument (sizes disagree, no memory), unsupported (type).
  static result<packed_matrix> pack(const compute_context& context, tensor_type type,
                                    std::span<const std::byte> blocks, std::size_t rows,
                                    std::size_t cols, weight_memory& memory);
  /// The same, in memory of its own.
  static result<packed_matrix> pack(const compute_context& context, tensor_type type,
                                    std::span<const std::byte> blocks, std::size_t rows,
                                    std::size_t cols);

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  tensor_type type() const noexcept { return type_; }
  /// Bytes of memory that the packed weights take.
  std::size_t size_bytes() const noexcept { return size_bytes_; }
  /// The packed bytes, 64-byte aligned; the layout is the business of compute/pack.cpp and kernels.
  const std::byte* data() const noexcept { return data_.get(); }

  /// Decodes row `row` (cols() values) to f32, equal to dequantize_row of the file's row. This is
  /// how token embeddings are read from a matrix that is also the output layer.
  void unpack_row(std::size_t row, std::span<float> out) const noexcept;

 private:
  std::shared_ptr<const std::byte[]> data_;
  std::size_t size_bytes_ = 0;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  tensor_type type_ = tensor_type::f32;
};

}  // namespace quire
