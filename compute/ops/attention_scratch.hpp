// Memory that attention reuses from call to call, and the shape of what its parts hand to each
// other.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace quire {

/// Cache-line aligned floats that grow and stay. What they held before growing is lost.
class float_buffer {
 public:
  float* reserve(std::size_t n) {
    if (n > capacity_) {
      data_.reset();
      data_.reset(static_cast<float*>(::operator new(n * sizeof(float), alignment)));
      capacity_ = n;
      // Pads are read, and masked afterwards: they must hold something.
      std::fill_n(data_.get(), n, 0.0f);
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct release {
    void operator()(float* p) const noexcept { ::operator delete(p, alignment); }
  };
  std::unique_ptr<float[], release> data_;
  std::size_t capacity_ = 0;
};

/// Hands out aligned parts of one buffer.
class carver {
 public:
  explicit carver(float* base) noexcept : next_(base) {}
  float* take(std::size_t n) noexcept {
    float* part = next_;
    next_ += rounded(n);
    return part;
  }
  /// Returns room for `n` objects of a type that needs no construction, in place of floats.
  template <class T>
  T* take_as(std::size_t n) noexcept {
    return reinterpret_cast<T*>(take(floats_for<T>(n)));
  }
  template <class T>
  static constexpr std::size_t floats_for(std::size_t n) noexcept {
    return (n * sizeof(T) + sizeof(float) - 1) / sizeof(float);
  }
  static constexpr std::size_t rounded(std::size_t n) noexcept { return (n + 15) / 16 * 16; }

 private:
  float* next_;
};

/// Where query rows' results over some positions go: unnormalized, with the maxima and sums they
/// need.
struct partial_result {
  float* maxima;  // (rows)
  float* sums;    // (rows)
  float* values;  // (rows, padded_dim)
};

/// Returns the floats that a partial result of `rows` rows of `dim` values takes.
constexpr std::size_t partial_floats(std::size_t rows, std::size_t dim) noexcept {
  return rows * (dim + 2);
}

/// Returns the partial result of `rows` rows that begins at `base`.
inline partial_result partial_at(float* base, std::size_t rows) noexcept {
  return {base, base + rows, base + 2 * rows};
}

}  // namespace quire
