#include "memory/page_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/check.hpp"

namespace quire {
namespace {

std::size_t system_page_bytes() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

std::size_t resident_bytes(std::byte* begin, std::size_t bytes) {
  const std::size_t unit = system_page_bytes();
  constexpr std::size_t at_once = 16384;
  std::vector<unsigned char> present(at_once);
  std::size_t resident = 0;
  while (bytes > 0) {
    const std::size_t units = std::min(at_once, bytes / unit);
    if (units == 0 || mincore(begin, units * unit, present.data()) != 0) break;
    for (std::size_t i = 0; i < units; ++i) resident += (present[i] & 1u) != 0 ? unit : 0;
    begin += units * unit;
    bytes -= units * unit;
  }
  return resident;
}

}  // namespace

result<page_pool> page_pool::make(const kv_layout& layout, std::uint32_t max_pages,
                                  huge_pages which) {
  std::size_t bytes = 0;
  if (layout.page_bytes == 0)
    return fail(errc::invalid_argument, "the page layout is empty; make it with kv_layout::make");
  if (__builtin_mul_overflow(layout.page_bytes, std::size_t{max_pages}, &bytes) ||
      bytes > SIZE_MAX / 2)
    return fail(errc::invalid_argument, std::to_string(max_pages) + " pages of " +
                                            std::to_string(layout.page_bytes) +
                                            " bytes exceed the address space");
  page_pool pool;
  pool.layout_ = layout;
  pool.max_pages_ = max_pages;
  const std::size_t unit = system_page_bytes();
  pool.region_bytes_ = (bytes + unit - 1) / unit * unit;
  if (pool.region_bytes_ == 0) return pool;
  void* region = mmap(nullptr, pool.region_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) {
    const int why = errno;
    pool.region_bytes_ = 0;
    return fail(errc::io_error, "the system refuses " + std::to_string(bytes) +
                                    " bytes of address space for the page pool (" +
                                    std::strerror(why) + "); ask for fewer pages");
  }
  pool.base_ = static_cast<std::byte*>(region);
  ask_for_huge_pages(region, pool.region_bytes_, which);
  return pool;
}

page_pool::page_pool(page_pool&& other) noexcept
    : layout_(other.layout_),
      base_(std::exchange(other.base_, nullptr)),
      region_bytes_(std::exchange(other.region_bytes_, 0)),
      max_pages_(std::exchange(other.max_pages_, 0)) {}

page_pool& page_pool::operator=(page_pool&& other) noexcept {
  std::swap(layout_, other.layout_);
  std::swap(base_, other.base_);
  std::swap(region_bytes_, other.region_bytes_);
  std::swap(max_pages_, other.max_pages_);
  return *this;
}

page_pool::~page_pool() {
  if (base_ != nullptr) munmap(base_, region_bytes_);
}

const kv_layout& page_pool::layout() const noexcept {
  return layout_;
}
std::uint32_t page_pool::max_pages() const noexcept {
  return max_pages_;
}
std::byte* page_pool::data() noexcept {
  return base_;
}
const std::byte* page_pool::data() const noexcept {
  return base_;
}

std::span<std::byte> page_pool::page(page_id id) noexcept {
  QUIRE_CHECK(to_index(id) < max_pages_, "no such page in the pool");
  return {base_ + to_index(id) * layout_.page_bytes, layout_.page_bytes};
}

void page_pool::apply(std::span<const page_copy> copies) noexcept {
  for (const page_copy& copy : copies) {
    const std::byte* from = page(copy.from).data();
    std::byte* to = page(copy.to).data();
    if (copy.tokens == 0 || from == to) continue;
    if (copy.tokens >= layout_.page_tokens) {
      std::memcpy(to, from, layout_.page_bytes);
      continue;
    }
    for (std::uint32_t layer = 0; layer < layout_.layers; ++layer)
      for (const kv_part part : {kv_part::key, kv_part::value})
        for (std::uint32_t head = 0; head < layout_.kv_heads; ++head) {
          const std::size_t at = layout_.rows_offset(layer, part, head);
          std::memcpy(to + at, from + at, copy.tokens * layout_.row_bytes(part));
        }
  }
}

std::size_t page_pool::trim(std::uint32_t first_page) noexcept {
  const std::size_t unit = system_page_bytes();
  const std::size_t begin = std::min(first_page, max_pages_) * layout_.page_bytes;
  // The system page that first_page begins in may hold the end of the page before: clear it by
  // hand.
  const std::size_t aligned = std::min((begin + unit - 1) / unit * unit, region_bytes_);
  if (base_ == nullptr || begin >= region_bytes_) return 0;
  std::memset(base_ + begin, 0, aligned - begin);
  const std::size_t resident = resident_bytes(base_ + aligned, region_bytes_ - aligned);
  if (aligned < region_bytes_) madvise(base_ + aligned, region_bytes_ - aligned, MADV_DONTNEED);
  return resident;
}

}  // namespace quire
