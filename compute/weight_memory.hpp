// Where packed weights lie: in a few large regions, which the kernel backs with huge pages where it
// may. A decode step reads all weights once, a page of 4 KiB at a time would miss the TLB at each.
#pragma once

#include <cstddef>
#include <memory>

#include "core/huge_pages.hpp"

namespace quire {

/// Hands out parts of regions. A region lives as long as the last of its parts.
class weight_memory {
 public:
  static constexpr std::size_t usual_region_bytes = std::size_t{256} << 20;

  /// Makes regions of `region_bytes` of address space, or larger where one part needs more.
  /// Untouched parts of a region take no memory.
  explicit weight_memory(std::size_t region_bytes = usual_region_bytes,
                         huge_pages which = huge_pages::large)
      : region_bytes_(region_bytes), huge_pages_(which) {}

  /// Returns `bytes` (> 0) of zeros, aligned to 64; null when the system has no more.
  std::shared_ptr<std::byte[]> take(std::size_t bytes);

 private:
  std::size_t region_bytes_;
  huge_pages huge_pages_;
  std::shared_ptr<std::byte[]> region_;  // the newest
  std::size_t size_ = 0;
  std::size_t used_ = 0;
};

}  // namespace quire
