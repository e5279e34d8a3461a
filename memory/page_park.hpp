// The bytes of sequences that left the page pool for a while: in memory, or in a file that has no
// name and so goes with the process, however it ends. What is kept here, where, and for how long
// somebody else decides; bytes come back bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"
#include "memory/page_pool.hpp"

namespace quire {

/// Names one parked copy. Strictly increasing, never reused; 0 is never given out.
enum class park_id : std::uint64_t {};
constexpr std::uint64_t to_index(park_id id) noexcept {
  return static_cast<std::uint64_t>(id);
}

enum class park_place : std::uint8_t { memory, disk };

/// Pages whose bytes are to leave the pool.
struct park_order {
  park_id id{};
  park_place where = park_place::memory;
  std::vector<page_id> pages;
};

/// Pages that get the bytes of a parked copy back, from its page `first_page` on.
struct unpark_order {
  park_id id{};
  std::uint32_t first_page = 0;
  std::vector<page_id> pages;
};

/// Not thread-safe; belongs to whoever owns the pool.
class page_park {
 public:
  /// `directory` is where the file is made when it is first needed; empty: $TMPDIR, or
  /// /var/tmp.
  page_park(std::size_t page_bytes, std::filesystem::path directory);
  page_park(page_park&& other) noexcept;
  page_park& operator=(page_park&&) = delete;
  ~page_park();

  /// Copies pages out of the pool. Errors: io_error (no file, no space); nothing is kept then.
  result<void> store(const park_order& order, page_pool& pool);
  /// Copies pages back. The copy is kept until drop. Errors: not_found, io_error.
  result<void> restore(const unpark_order& order, page_pool& pool);
  /// Forgets a copy; unknown ones are ignored.
  void drop(park_id id);

  std::uint64_t memory_bytes() const noexcept { return memory_pages_ * page_bytes_; }
  std::uint64_t disk_bytes() const noexcept { return disk_pages_ * page_bytes_; }

 private:
  struct parked {
    std::vector<std::byte> bytes;      ///< in memory
    std::vector<std::uint64_t> slots;  ///< or in the file, one per page
  };
  result<void> open_file();
  result<void> write(const park_order& order, page_pool& pool, parked& into);
  void give_back(std::span<const std::uint64_t> slots);

  std::size_t page_bytes_;
  std::filesystem::path directory_;
  int file_ = -1;
  std::unordered_map<park_id, parked> copies_;
  std::vector<std::uint64_t> free_slots_;
  std::uint64_t num_slots_ = 0;
  std::uint64_t memory_pages_ = 0;
  std::uint64_t disk_pages_ = 0;
};

}  // namespace quire
