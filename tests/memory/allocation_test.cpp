// The store must not go to the heap per token, nor grow with the number of sequences that ever
// lived. Counts every allocation of this executable.
#include <cstdlib>
#include <new>
#include <vector>

#include "memory/page_store.hpp"
#include "tests/support/catch.hpp"

namespace {

std::uint64_t allocations = 0;

void* counted(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) {
  return counted(bytes);
}
void* operator new[](std::size_t bytes) {
  return counted(bytes);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

using namespace quire;

TEST_CASE("appending tokens allocates nothing per token", "[memory]") {
  page_store store = *page_store::make(1000, 16);
  std::vector<page_copy> copies;
  const sequence_id id = store.allocate(0).value();
  const std::uint64_t before = allocations;
  bool all = true;
  for (std::uint64_t stored = 1; stored <= 10000; ++stored)
    all = all && store.extend(id, 1) && store.update_tokens(id, stored, copies);
  const std::uint64_t used = allocations - before;
  REQUIRE(all);
  REQUIRE(used <= 30);  // the table and its links double a few times
}

TEST_CASE("sequences that come and go leave the heap alone once their slots are warm", "[memory]") {
  page_store store = *page_store::make(1000, 16);
  std::vector<page_copy> copies;
  std::vector<sequence_id> live(64);
  const auto churn = [&](std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      sequence_id& slot = live[i % live.size()];
      const sequence_id other = live[(i + 1) % live.size()];
      store.free(slot);
      slot = i % 3 == 0 && to_index(other) != 0 ? *store.fork(other) : *store.allocate(3 + i % 200);
      REQUIRE(store.update_tokens(slot, i % 3, copies).has_value());
      copies.clear();
    }
  };
  churn(200000);
  const std::uint64_t before = allocations;
  churn(1000000);
  const std::uint64_t grown = allocations - before;
  CAPTURE(grown);
  REQUIRE(grown < 100);
  REQUIRE(store.stats().active_sequences == 64);
}
