// Deterministic bytes, blocks and activations for the tests of compute/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

/// The splitmix64 generator (Steele, Lea and Flood 2014).
class splitmix64 {
 public:
  explicit splitmix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Returns a value in [-1, 1).
  float uniform() { return static_cast<float>(static_cast<std::int32_t>(next() >> 32)) * 0x1p-31f; }

 private:
  std::uint64_t state_;
};

/// Returns `count` bytes of the stream of a seed.
inline std::vector<std::byte> splitmix_bytes(std::uint64_t seed, std::size_t count) {
  std::vector<std::byte> bytes;
  bytes.reserve(count + 8);
  splitmix64 random(seed);
  while (bytes.size() < count)
    for (std::uint64_t word = random.next(), i = 0; i < 8; ++i, word >>= 8)
      bytes.push_back(static_cast<std::byte>(word & 255u));
  bytes.resize(count);
  return bytes;
}
