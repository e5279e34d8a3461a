// Memory that a thread will read soon, in one word that threads hand to each other without a lock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace quire {

/// A run of cache lines that are taken from the front, a few at a time.
class read_ahead {
 public:
  static constexpr std::size_t line_bytes = 64;
  /// The second-level cache of the machines in mind holds a megabyte or two.
  static constexpr std::size_t most_bytes = std::size_t{512} << 10;

  constexpr read_ahead() noexcept = default;
  explicit constexpr read_ahead(std::uint64_t word) noexcept : word_(word) {}
  /// Takes the lines that hold `bytes`, at most `most_bytes` of them.
  explicit read_ahead(std::span<const std::byte> bytes) noexcept {
    if (bytes.empty()) return;
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::size_t size = std::min(bytes.size(), most_bytes);
    const std::uint64_t first = address / line_bytes;
    word_ = first << count_bits | ((address + size - 1) / line_bytes - first + 1);
  }

  constexpr std::uint64_t word() const noexcept { return word_; }
  constexpr bool empty() const noexcept { return (word_ & most_lines) == 0; }

  /// Asks memory for the next lines, at most `count`, to be brought to this core's second-level
  /// cache. Harmless whatever has become of the memory.
  void fetch(std::size_t count) noexcept {
    take(count, [](std::uintptr_t line) {
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
    });
  }

  /// Calls use(address) for the next lines, at most `count`, which are then gone.
  template <class Use>
  constexpr void take(std::size_t count, Use&& use) {
    for (; count != 0 && !empty(); --count) {
      use(static_cast<std::uintptr_t>((word_ >> count_bits) * line_bytes));
      word_ += (std::uint64_t{1} << count_bits) - 1;  // a line on, one less
    }
  }

 private:
  // The number of lines below, the first one above: room for addresses of 56 bits.
  static constexpr int count_bits = 14;
  static constexpr std::uint64_t most_lines = (std::uint64_t{1} << count_bits) - 1;
  static_assert(most_bytes / line_bytes + 1 <= most_lines);

  std::uint64_t word_ = 0;
};

}  // namespace quire
