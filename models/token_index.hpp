// Finds the id of a token by its text: a flat hash table, seeded per process so that a model file
// cannot be made to collide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace quire {

/// Stands for "no such token" where an optional would double the size.
inline constexpr std::uint32_t no_token = 0xffffffffU;

/// Mixes a 64-bit key with the seed of this process.
std::uint64_t seeded_hash(std::uint64_t key) noexcept;

/// Hashes bytes with the seed of this process.
std::uint64_t seeded_hash(std::string_view text) noexcept;

class token_index {
 public:
  token_index() = default;
  /// Indexes texts by their position; empty ones are left out. The texts must outlive the index. Of
  /// equal texts the first is found, and the second is reported by duplicate().
  explicit token_index(std::span<const std::string_view> texts);

  /// Returns the position of a text, or no_token. Thread-safe.
  std::uint32_t find(std::string_view text) const noexcept;

  /// Returns the first text that occurred twice, by its second position, or no_token.
  std::uint32_t duplicate() const noexcept { return duplicate_; }

 private:
  struct slot {
    std::uint32_t tag = 0;
    std::uint32_t id = no_token;
  };
  std::span<const std::string_view> texts_;
  std::vector<slot> slots_;
  std::uint32_t duplicate_ = no_token;
};

}  // namespace quire
