#include "core/huge_pages.hpp"

#include <sys/mman.h>

namespace quire {

void ask_for_huge_pages(void* at, std::size_t bytes, huge_pages which) noexcept {
  const std::size_t least = which == huge_pages::always ? huge_page_bytes : 8 * huge_page_bytes;
  if (which != huge_pages::never && bytes >= least) madvise(at, bytes, MADV_HUGEPAGE);
}

}  // namespace quire
