// A page store with the copies that its operations asked for, and ways to bring it into a wanted
// shape.
#pragma once

#include <algorithm>
#include <vector>

#include "memory/page_store.hpp"
#include "tests/support/catch.hpp"

namespace quire::testing {

using pages = std::vector<std::uint32_t>;

struct page_store_fixture {
  page_store store;
  std::vector<page_copy> copies;

  explicit page_store_fixture(std::uint32_t num_pages, std::uint32_t page_tokens = 16)
      : store(*page_store::make(num_pages, page_tokens)) {}

  sequence_id sequence(std::uint64_t tokens, std::uint64_t stored = 0) {
    const sequence_id id = store.allocate(tokens).value();
    if (stored > 0) REQUIRE(store.update_tokens(id, stored, copies).has_value());
    return id;
  }
  /// One-page sequences over the whole store; those that `keeps` does not name are freed.
  std::vector<sequence_id> singles(const pages& keeps, std::uint64_t stored = 16) {
    std::vector<sequence_id> all;
    while (store.free_pages() > 0) all.push_back(sequence(16, stored));
    std::vector<sequence_id> kept;
    for (std::uint32_t i = 0; i < all.size(); ++i)
      if (std::find(keeps.begin(), keeps.end(), i) == keeps.end())
        store.free(all[i]);
      else
        kept.push_back(all[i]);
    return kept;
  }
  /// A sequence of these pages, in this order.
  sequence_id holding(const pages& wanted) {
    std::vector<sequence_id> others;
    std::vector<page_id> held;
    while (store.free_pages() > 0) others.push_back(sequence(16, 16));
    for (const std::uint32_t page : wanted) held.push_back(page_id{page});
    const sequence_id id = store.allocate_shared(held, 0).value();
    for (const sequence_id other : others) store.free(other);
    return id;
  }
  pages table(sequence_id id) const {
    pages found;
    const std::span<const page_id> held = store.table(id).value();
    for (const page_id page : held) found.push_back(to_index(page));
    return found;
  }
};

}  // namespace quire::testing
