// Maps sequence ids to reusable slot numbers: open addressing with linear probing and deletion by
// shifting back, so that a store that lives for millions of sequences neither grows nor allocates.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ids.hpp"

namespace quire {

class sequence_slots {
 public:
  static constexpr std::uint32_t none = UINT32_MAX;

  /// Returns the slot of an id, or none. O(1).
  std::uint32_t find(sequence_id id) const noexcept {
    if (entries_.empty()) return none;
    for (std::size_t at = home(id);; at = (at + 1) & mask()) {
      if (entries_[at].id == id) return entries_[at].slot;
      if (entries_[at].id == sequence_id{}) return none;
    }
  }
  /// Adds an id that is not present and not 0. Amortized O(1).
  void insert(sequence_id id, std::uint32_t slot) {
    if ((size_ + 1) * 2 > entries_.size()) grow();
    place(id, slot);
    ++size_;
  }
  /// Removes an id that is present. O(1).
  void erase(sequence_id id) noexcept {
    std::size_t hole = home(id);
    while (entries_[hole].id != id) hole = (hole + 1) & mask();
    for (std::size_t at = (hole + 1) & mask(); entries_[at].id != sequence_id{};
         at = (at + 1) & mask()) {
      // An entry may fill the hole unless its home lies after the hole on its way.
      if (((at - home(entries_[at].id)) & mask()) >= ((at - hole) & mask())) {
        entries_[hole] = entries_[at];
        hole = at;
      }
    }
    entries_[hole] = {};
    --size_;
  }
  std::size_t size() const noexcept { return size_; }

 private:
  struct entry {
    sequence_id id{};
    std::uint32_t slot = none;
  };

  std::size_t mask() const noexcept { return entries_.size() - 1; }
  std::size_t home(sequence_id id) const noexcept {
    // Fibonacci hashing: consecutive ids spread over the table.
    return static_cast<std::size_t>(to_index(id) * 0x9e3779b97f4a7c15ull >> 32) & mask();
  }
  void place(sequence_id id, std::uint32_t slot) noexcept {
    std::size_t at = home(id);
    while (entries_[at].id != sequence_id{}) at = (at + 1) & mask();
    entries_[at] = {id, slot};
  }
  void grow() {
    std::vector<entry> old(entries_.empty() ? 16 : entries_.size() * 2);
    old.swap(entries_);
    for (const entry& e : old)
      if (e.id != sequence_id{}) place(e.id, e.slot);
  }

  std::vector<entry> entries_;
  std::size_t size_ = 0;
};

}  // namespace quire
