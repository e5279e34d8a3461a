// The bytes of the pages: one reserved region of address space, committed page by page as used.
#pragma once

#include <cstddef>
#include <span>

#include "compute/kv_layout.hpp"
#include "core/error.hpp"
#include "core/huge_pages.hpp"
#include "core/ids.hpp"
#include "memory/page_store.hpp"

namespace quire {

/// Owns address space for max_pages pages. Distinct pages may be used by different threads; the
/// same page only under the rules of leases.
class page_pool {
 public:
  /// Reserves the region; memory is committed by the system on first touch. Errors: io_error (the
  /// system refuses), invalid_argument (overflow).
  static result<page_pool> make(const kv_layout& layout, std::uint32_t max_pages,
                                huge_pages which = huge_pages::large);
  page_pool(page_pool&&) noexcept;
  page_pool& operator=(page_pool&&) noexcept;
  ~page_pool();

  const kv_layout& layout() const noexcept;
  std::uint32_t max_pages() const noexcept;
  std::byte* data() noexcept;
  const std::byte* data() const noexcept;
  std::span<std::byte> page(page_id id) noexcept;

  /// Copies the filled tokens of all layers, in order; later copies may read what earlier ones
  /// wrote.
  void apply(std::span<const page_copy> copies) noexcept;
  /// Gives the memory of pages [first, max_pages) back to the operating system; they read as zeros
  /// afterwards. Returns the bytes that were resident.
  std::size_t trim(std::uint32_t first_page) noexcept;

 private:
  page_pool() = default;
  kv_layout layout_;
  std::byte* base_ = nullptr;
  std::size_t region_bytes_ = 0;
  std::uint32_t max_pages_ = 0;
};

}  // namespace quire
