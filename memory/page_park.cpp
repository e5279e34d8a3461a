#include "memory/page_park.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace quire {

namespace {

tl::unexpected<error> failed(const char* what, const std::filesystem::path& directory) {
  return fail(errc::io_error, std::string("parking pages: ") + what + " in '" + directory.string() +
                                  "': " + std::strerror(errno) +
                                  "; set kv.park_dir to a directory "
                                  "with space, or kv.park_disk_mib to 0");
}

// pwrite and pread may do less than asked.
template <class Call>
bool whole(Call call, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t now = call(done);
    if (now < 0 && errno == EINTR) continue;
    if (now == 0) errno = EIO;
    if (now <= 0) return false;
    done += static_cast<std::size_t>(now);
  }
  return true;
}

}  // namespace

page_park::page_park(std::size_t page_bytes, std::filesystem::path directory)
    : page_bytes_(page_bytes), directory_(std::move(directory)) {}

page_park::page_park(page_park&& other) noexcept
    : page_bytes_(other.page_bytes_),
      directory_(std::move(other.directory_)),
      file_(std::exchange(other.file_, -1)),
      copies_(std::move(other.copies_)),
      free_slots_(std::move(other.free_slots_)),
      num_slots_(other.num_slots_),
      memory_pages_(other.memory_pages_),
      disk_pages_(other.disk_pages_) {}

page_park::~page_park() {
  if (file_ >= 0) ::close(file_);
}

result<void> page_park::open_file() {
  if (file_ >= 0) return {};
  if (directory_.empty()) {
    // Not /tmp: that is often memory.
    const char* const chosen = std::getenv("TMPDIR");
    directory_ = chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
  }
  file_ = ::open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file_ >= 0) return {};
  // Not every file system knows nameless files: there the name goes before anything is written.
  std::string name = (directory_ / "quire-park-XXXXXX").string();
  file_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (file_ < 0) return failed("cannot make a file", directory_);
  ::unlink(name.c_str());
  return {};
}

result<void> page_park::write(const park_order& order, page_pool& pool, parked& into) {
  if (auto opened = open_file(); !opened) return opened;
  for (const page_id page : order.pages) {
    if (free_slots_.empty()) free_slots_.push_back(num_slots_++);
    const std::uint64_t slot = free_slots_.back();
    free_slots_.pop_back();
    into.slots.push_back(slot);
    const auto from = pool.page(page);
    const bool done = whole(
        [&](std::size_t at) {
          return ::pwrite(file_, from.data() + at, page_bytes_ - at,
                          static_cast<off_t>(slot * page_bytes_ + at));
        },
        page_bytes_);
    if (!done) return failed("cannot write", directory_);
  }
  return {};
}

result<void> page_park::store(const park_order& order, page_pool& pool) {
  drop(order.id);
  parked copy;
  if (order.where == park_place::disk) {
    if (auto written = write(order, pool, copy); !written) {
      give_back(copy.slots);
      return written;
    }
    disk_pages_ += copy.slots.size();
  } else {
    copy.bytes.resize(order.pages.size() * page_bytes_);
    for (std::size_t i = 0; i < order.pages.size(); ++i)
      std::memcpy(copy.bytes.data() + i * page_bytes_, pool.page(order.pages[i]).data(),
                  page_bytes_);
    memory_pages_ += order.pages.size();
  }
  copies_.emplace(order.id, std::move(copy));
  return {};
}

result<void> page_park::restore(const unpark_order& order, page_pool& pool) {
  const auto found = copies_.find(order.id);
  if (found == copies_.end()) return fail(errc::not_found, "no parked copy has this id");
  const parked& copy = found->second;
  const std::size_t held = copy.slots.empty() ? copy.bytes.size() / page_bytes_ : copy.slots.size();
  if (order.first_page + order.pages.size() > held)
    return fail(errc::not_found, "the parked copy has fewer pages than are wanted");
  for (std::size_t i = 0; i < order.pages.size(); ++i) {
    const std::size_t index = order.first_page + i;
    std::byte* const to = pool.page(order.pages[i]).data();
    if (copy.slots.empty()) {
      std::memcpy(to, copy.bytes.data() + index * page_bytes_, page_bytes_);
      continue;
    }
    const bool done = whole(
        [&](std::size_t at) {
          return ::pread(file_, to + at, page_bytes_ - at,
                         static_cast<off_t>(copy.slots[index] * page_bytes_ + at));
        },
        page_bytes_);
    if (!done) return failed("cannot read", directory_);
  }
  return {};
}

void page_park::drop(park_id id) {
  const auto found = copies_.find(id);
  if (found == copies_.end()) return;
  memory_pages_ -= found->second.bytes.size() / page_bytes_;
  disk_pages_ -= found->second.slots.size();
  give_back(found->second.slots);
  copies_.erase(found);
}

void page_park::give_back(std::span<const std::uint64_t> slots) {
  for (const std::uint64_t slot : slots) {
    free_slots_.push_back(slot);
    // The space itself goes back too where the file system can; where not, it is used again.
    ::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(slot * page_bytes_), static_cast<off_t>(page_bytes_));
  }
}

}  // namespace quire
