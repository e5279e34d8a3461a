// The merge loop that byte-level BPE and SentencePiece's BPE share: of all neighbours that form a
// token, join the pair of lowest rank, the leftmost of equals, until none is left.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "models/token_index.hpp"

namespace quire {

inline constexpr std::uint32_t no_symbol = 0xffffffffU;

/// A stretch of the word. Merging joins the right one into the left one and leaves size 0 behind.
struct merge_symbol {
  std::uint32_t previous = no_symbol;
  std::uint32_t next = no_symbol;
  std::uint32_t offset = 0;  ///< in bytes from the start of the word
  std::uint32_t size = 0;    ///< in bytes; 0: merged away
  std::uint32_t id = no_token;
};

/// What joining two neighbours would give; id no_token when it gives nothing.
struct merge_outcome {
  std::uint32_t rank = 0;
  std::uint32_t id = no_token;
};

/// Buffers that keep their memory between words; one per thread.
class merge_workspace {
 public:
  std::vector<merge_symbol> symbols;

  /// Forgets the last word. Memory that only an extraordinary word needed is given back.
  void clear() {
    constexpr std::size_t usual_symbols = 16 * 1024;
    if (symbols.capacity() > usual_symbols) *this = merge_workspace();
    symbols.clear();
  }

  /// Appends a symbol at the end of the chain.
  void add(std::uint32_t size, std::uint32_t id) {
    const auto index = static_cast<std::uint32_t>(symbols.size());
    merge_symbol symbol{no_symbol, no_symbol, 0, size, id};
    if (index > 0) {
      symbol.previous = index - 1;
      symbol.offset = symbols.back().offset + symbols.back().size;
      symbols.back().next = index;
    }
    symbols.push_back(symbol);
  }

  /// Merges until nothing can be merged. `outcome(left, right)` takes two merge_symbols. The result
  /// is the chain that starts at symbols[0]. Cost: O(n log n).
  template <class Outcome>
  void merge(const Outcome& outcome) {
    queue_.clear();
    for (std::uint32_t i = 0; i + 1 < symbols.size(); ++i) propose(i, outcome);
    while (!queue_.empty()) {
      std::ranges::pop_heap(queue_, later);
      const candidate best = queue_.back();
      queue_.pop_back();
      const auto left_index = static_cast<std::uint32_t>(best.order);
      merge_symbol& left = symbols[left_index];
      if (left.size == 0 || left.next == no_symbol) continue;
      merge_symbol& right = symbols[left.next];
      // Symbols only grow, so an equal total size means that this is still the pair it was.
      if (left.size + right.size != best.size) continue;
      left.size = best.size;
      left.id = best.id;
      left.next = right.next;
      right.size = 0;
      if (left.next != no_symbol) symbols[left.next].previous = left_index;
      if (left.previous != no_symbol) propose(left.previous, outcome);
      if (left.next != no_symbol) propose(left_index, outcome);
    }
  }

 private:
  struct candidate {
    std::uint64_t order = 0;  // rank, then the index of the left symbol
    std::uint32_t size = 0;
    std::uint32_t id = no_token;
  };
  static bool later(const candidate& a, const candidate& b) noexcept { return a.order > b.order; }

  template <class Outcome>
  void propose(std::uint32_t left, const Outcome& outcome) {
    const merge_symbol& a = symbols[left];
    const merge_symbol& b = symbols[a.next];
    const merge_outcome joined = outcome(a, b);
    if (joined.id == no_token) return;
    queue_.push_back({(std::uint64_t{joined.rank} << 32U) | left, a.size + b.size, joined.id});
    std::ranges::push_heap(queue_, later);
  }

  std::vector<candidate> queue_;
};

}  // namespace quire
