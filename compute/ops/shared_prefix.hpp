// Finds what the sequences of a step have in common: runs of positions that lie in the same pages,
// whose keys and values need to be read once for all of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compute/ops/attention.hpp"

namespace quire {

/// Positions [begin, end) that lie in the same pages for several sequences of one new token each.
struct shared_run {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  std::uint32_t first_member = 0;  ///< in prefix_sharing::members()
  std::uint32_t num_members = 0;
};

/// The common prefixes of one step. Keeps its memory between steps.
class prefix_sharing {
 public:
  /// Runs shorter than this are not worth a group of their own; all begin and end at multiples of
  /// it.
  static constexpr std::uint32_t grain = 64;

  /// Finds the runs of `sequences`, whose tables and positions must stay what they are while runs
  /// are used. Prefixes within prefixes give runs one after the other. Cost: sorting the sequences
  /// by their tables, and the length of what is shared.
  void find(std::span<const attention_sequence> sequences, std::uint32_t page_tokens);
  void clear() noexcept {
    runs_.clear();
    members_.clear();
  }

  std::span<const shared_run> runs() const noexcept { return runs_; }
  /// Returns the sequences of a run, by their place in the step.
  std::span<const std::uint32_t> members(const shared_run& run) const noexcept {
    return std::span(members_).subspan(run.first_member, run.num_members);
  }
  /// Returns the position where a sequence's own part begins.
  std::uint32_t private_begin(std::size_t sequence) const noexcept {
    return runs_.empty() ? 0 : private_begin_[sequence];
  }

 private:
  void split(std::size_t first, std::size_t last, std::uint32_t begin);

  std::vector<std::uint32_t> sorted_;  // sequences by their tables
  std::vector<std::uint32_t> common_;  // positions that sorted_[i] and sorted_[i + 1] share
  std::vector<shared_run> runs_;
  std::vector<std::uint32_t> members_;
  std::vector<std::uint32_t> private_begin_;
};

}  // namespace quire
