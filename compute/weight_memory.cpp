#include "compute/weight_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

namespace quire {

namespace {

constexpr std::size_t part_alignment = 64;

std::size_t round_up(std::size_t n, std::size_t unit) noexcept {
  return (n + unit - 1) / unit * unit;
}

// Regions that are worth it begin at a multiple of the size of a huge page.
std::shared_ptr<std::byte[]> map_region(std::size_t bytes, huge_pages which) {
  const bool huge = bytes >= huge_page_bytes;
  const std::size_t mapped = huge ? bytes + huge_page_bytes : bytes;
  void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  auto* first = static_cast<std::byte*>(at);
  if (huge) {
    const auto address = reinterpret_cast<std::uintptr_t>(at);
    first += round_up(address, huge_page_bytes) - address;
    ask_for_huge_pages(first, bytes, which);
  }
  return {first, [at, mapped](std::byte*) { munmap(at, mapped); }};
}

}  // namespace

std::shared_ptr<std::byte[]> weight_memory::take(std::size_t bytes) {
  if (region_ == nullptr || size_ - used_ < bytes) {
    const std::size_t size = std::max(bytes, region_bytes_);
    auto region = map_region(size, huge_pages_);
    if (region == nullptr) return nullptr;
    region_ = std::move(region);
    size_ = size;
    used_ = 0;
  }
  std::byte* part = region_.get() + used_;
  used_ = std::min(size_, round_up(used_ + bytes, part_alignment));
  return {region_, part};
}

}  // namespace quire
