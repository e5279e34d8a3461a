// Finds special tokens written out in a text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace quire {

/// An occurrence of a special token.
struct special_match {
  std::size_t offset = 0;
  std::size_t size = 0;
  std::uint32_t id = 0;
};

class special_matcher {
 public:
  special_matcher() = default;
  /// The texts of `ids`, by id, must outlive the matcher. Empty texts are left out.
  special_matcher(std::span<const std::string_view> texts, std::vector<std::uint32_t> ids);

  /// Returns the occurrences in the order of the text. Where they overlap the longest wins, then
  /// the lowest id, then the leftmost: the order in which the reference splits. Thread-safe. Cost:
  /// O(n + m log m) for m occurrences with overlaps.
  std::vector<special_match> find(std::string_view text) const;

 private:
  void collect_at(std::string_view text, std::size_t offset, std::vector<special_match>& out) const;

  struct special {
    std::string_view text;
    std::uint32_t id = 0;
  };
  std::vector<special> specials_;           // sorted by text
  std::array<bool, 256> begins_special_{};  // by first byte
};

}  // namespace quire
