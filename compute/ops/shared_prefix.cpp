#include "compute/ops/shared_prefix.hpp"

#include <algorithm>

namespace quire {

void prefix_sharing::find(std::span<const attention_sequence> sequences,
                          std::uint32_t page_tokens) {
  clear();
  sorted_.clear();
  for (std::uint32_t s = 0; s < sequences.size(); ++s)
    if (sequences[s].num_tokens == 1 && sequences[s].first_position >= grain) sorted_.push_back(s);
  if (sorted_.size() < 2) return;
  std::sort(sorted_.begin(), sorted_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::ranges::lexicographical_compare(sequences[a].table, sequences[b].table);
  });
  common_.resize(sorted_.size() - 1);
  for (std::size_t i = 0; i < common_.size(); ++i) {
    const attention_sequence& a = sequences[sorted_[i]];
    const attention_sequence& b = sequences[sorted_[i + 1]];
    const auto pages = std::ranges::mismatch(a.table, b.table).in1 - a.table.begin();
    // Only what both have stored: the page after it may be about to become another's.
    const std::uint64_t tokens = static_cast<std::uint64_t>(pages) * page_tokens;
    const std::uint64_t stored = std::min(a.first_position, b.first_position);
    common_[i] = static_cast<std::uint32_t>(std::min(tokens, stored)) / grain * grain;
  }
  private_begin_.assign(sequences.size(), 0);
  split(0, sorted_.size(), 0);
}

// Of sorted_[first, last), which share positions [0, begin), makes a run of what all share beyond,
// and goes on with those that share more.
void prefix_sharing::split(std::size_t first, std::size_t last, std::uint32_t begin) {
  while (first + 1 < last) {
    // The next sequences that share more than `begin` with their neighbour.
    if (common_[first] <= begin) {
      ++first;
      continue;
    }
    std::size_t end = first + 1;
    std::uint32_t shared = common_[first];
    while (end < last && common_[end - 1] > begin)
      shared = std::min(shared, common_[end - 1]), ++end;
    const auto first_member = static_cast<std::uint32_t>(members_.size());
    for (std::size_t i = first; i < end; ++i) {
      members_.push_back(sorted_[i]);
      private_begin_[sorted_[i]] = shared;
    }
    runs_.push_back({begin, shared, first_member, static_cast<std::uint32_t>(end - first)});
    split(first, end, shared);
    first = end;
  }
}

}  // namespace quire
