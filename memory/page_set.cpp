#include "memory/page_set.hpp"

#include <bit>

namespace quire {
namespace {

constexpr std::uint32_t word_bits = 64;

std::uint64_t bit_of(std::uint32_t index) {
  return std::uint64_t{1} << (index % word_bits);
}

std::uint64_t bits_from(std::uint32_t index) {
  return ~std::uint64_t{0} << (index % word_bits);
}

std::uint64_t bits_below(std::uint32_t index) {
  return ~bits_from(index);
}

std::uint32_t lowest(std::uint64_t word) {
  return static_cast<std::uint32_t>(std::countr_zero(word));
}

}  // namespace

void page_set::resize(std::uint32_t limit) {
  if (levels_.empty()) levels_.resize(1);
  levels_[0].resize((limit + word_bits - 1) / word_bits);
  limit_ = limit;
  levels_.resize(1);
  while (levels_.back().size() > 1) {
    const std::vector<std::uint64_t>& below = levels_.back();
    std::vector<std::uint64_t> above((below.size() + word_bits - 1) / word_bits);
    for (std::size_t i = 0; i < below.size(); ++i)
      if (below[i] != 0) above[i / word_bits] |= std::uint64_t{1} << (i % word_bits);
    levels_.push_back(std::move(above));
  }
}

void page_set::insert(std::uint32_t page) noexcept {
  ++size_;
  for (auto& level : levels_) {
    std::uint64_t& word = level[page / word_bits];
    const bool was_empty = word == 0;
    word |= bit_of(page);
    if (!was_empty) return;
    page /= word_bits;
  }
}

void page_set::erase(std::uint32_t page) noexcept {
  --size_;
  for (auto& level : levels_) {
    std::uint64_t& word = level[page / word_bits];
    word &= ~bit_of(page);
    if (word != 0) return;
    page /= word_bits;
  }
}

std::uint32_t page_set::next(std::uint32_t from) const noexcept {
  if (from >= limit_) return none;
  std::size_t level = 0;
  std::uint32_t index = from;
  for (;;) {  // up, until a word holds something at or after the index
    const std::uint32_t at = index / word_bits;
    if (at >= levels_[level].size()) return none;
    const std::uint64_t rest = levels_[level][at] & bits_from(index);
    if (rest != 0) {
      index = at * word_bits + lowest(rest);
      break;
    }
    if (++level == levels_.size()) return none;
    index = at + 1;
  }
  while (level > 0) index = index * word_bits + lowest(levels_[--level][index]);
  return index;
}

std::uint32_t page_set::next_absent(std::uint32_t from) const noexcept {
  while (from < limit_) {
    const std::uint64_t rest = ~levels_[0][from / word_bits] & bits_from(from);
    if (rest != 0) {
      const std::uint32_t found = from / word_bits * word_bits + lowest(rest);
      return found < limit_ ? found : limit_;
    }
    from = (from / word_bits + 1) * word_bits;
  }
  return limit_;
}

std::uint32_t page_set::previous_absent(std::uint32_t before) const noexcept {
  if (before > limit_) before = limit_;
  while (before > 0) {
    const std::uint32_t at = (before - 1) / word_bits;
    const std::uint64_t within = before % word_bits == 0 ? ~std::uint64_t{0} : bits_below(before);
    const std::uint64_t absent = ~levels_[0][at] & within;
    if (absent != 0)
      return at * word_bits + word_bits - 1 - static_cast<std::uint32_t>(std::countl_zero(absent));
    before = at * word_bits;
  }
  return none;
}

std::uint32_t page_set::runs_before(std::uint32_t end) const noexcept {
  std::uint32_t runs = 0;
  std::uint64_t carry = 0;
  for (std::uint32_t at = 0; at * word_bits < end; ++at) {
    std::uint64_t word = levels_[0][at];
    if (end - at * word_bits < word_bits) word &= bits_below(end);
    runs += static_cast<std::uint32_t>(std::popcount(word & ~(word << 1 | carry)));
    carry = word >> (word_bits - 1);
  }
  return runs;
}

}  // namespace quire
