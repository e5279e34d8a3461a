// Large regions of memory on huge pages: what is read all over at each step misses the TLB less.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire {

/// For which regions to ask for huge pages.
enum class huge_pages : std::uint8_t {
  large,   ///< those of 16 MiB and more, where a last page that is partly used wastes little
  always,  ///< all that can hold one
  never,
};

inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// Asks the system for huge pages in [at, at + bytes), which nobody has touched yet. It is advice:
/// refused, the region works the same, slower.
void ask_for_huge_pages(void* at, std::size_t bytes, huge_pages which) noexcept;

}  // namespace quire
