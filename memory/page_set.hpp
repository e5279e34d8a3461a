// A set of page numbers that finds its lowest members fast: one bit per page, and above it levels
// in which a bit says that a word below is not empty. It is the free list of the page store.
#pragma once

#include <cstdint>
#include <vector>

namespace quire {

class page_set {
 public:
  /// Returned when no page answers.
  static constexpr std::uint32_t none = UINT32_MAX;

  /// Changes the range of page numbers to [0, limit). Members at or past the limit must have been
  /// erased. O(limit / 64).
  void resize(std::uint32_t limit);
  std::uint32_t limit() const noexcept { return limit_; }
  std::uint32_t size() const noexcept { return size_; }

  bool contains(std::uint32_t page) const noexcept {
    return page < limit_ && (levels_[0][page / 64] >> (page % 64) & 1u) != 0;
  }
  /// Adds a page that is not a member. O(log limit), base 64.
  void insert(std::uint32_t page) noexcept;
  /// Removes a member. O(log limit), base 64.
  void erase(std::uint32_t page) noexcept;

  /// Returns the lowest member >= from, or none. O(log limit), base 64.
  std::uint32_t next(std::uint32_t from) const noexcept;
  /// Returns the lowest page >= from that is not a member, at most limit. O(run / 64).
  std::uint32_t next_absent(std::uint32_t from) const noexcept;
  /// Returns the highest page < before that is not a member, or none. O(run / 64).
  std::uint32_t previous_absent(std::uint32_t before) const noexcept;
  /// Counts the maximal runs of members below `end`, a non-member or the limit. O(end / 64).
  std::uint32_t runs_before(std::uint32_t end) const noexcept;

 private:
  std::vector<std::vector<std::uint64_t>> levels_;  ///< [0] holds the pages, the last is one word
  std::uint32_t limit_ = 0;
  std::uint32_t size_ = 0;
};

}  // namespace quire
