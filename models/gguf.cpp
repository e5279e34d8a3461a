#include "models/gguf.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "models/gguf_parse.hpp"

namespace quire {

struct gguf_file::impl {
  impl() = default;
  impl(const impl&) = delete;
  impl& operator=(const impl&) = delete;
  ~impl() {
    if (mapping != nullptr) ::munmap(mapping, bytes.size());
  }

  void* mapping = nullptr;  // null when the caller holds the bytes
  std::span<const std::byte> bytes;
  gguf_index index;
};

namespace {

/// Closes a file descriptor at the end of a scope.
struct descriptor {
  explicit descriptor(int opened) : number(opened) {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (number >= 0) ::close(number);
  }
  int number;
};

std::string reason() {
  return std::strerror(errno);
}

}  // namespace

gguf_file::gguf_file(std::unique_ptr<impl> state) : impl_(std::move(state)) {}
gguf_file::gguf_file(gguf_file&&) noexcept = default;
gguf_file& gguf_file::operator=(gguf_file&&) noexcept = default;
gguf_file::~gguf_file() = default;

result<gguf_file> gguf_file::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer; it is refused just below.
  const descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0)
    return fail(errc::io_error, fmt::format("cannot open {}: {}", path.string(), reason()));
  struct stat status {};
  if (::fstat(file.number, &status) != 0)
    return fail(errc::io_error, fmt::format("cannot examine {}: {}", path.string(), reason()));
  if (!S_ISREG(status.st_mode))
    return fail(errc::io_error, fmt::format("{} is not a regular file", path.string()));
  if (status.st_size == 0)
    return fail(errc::invalid_file, fmt::format("{} is empty", path.string()));
  const auto size = static_cast<std::size_t>(status.st_size);
  auto state = std::make_unique<impl>();
  void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (mapping == MAP_FAILED)
    return fail(errc::io_error, fmt::format("cannot map {}: {}", path.string(), reason()));
  state->mapping = mapping;
  state->bytes = {static_cast<const std::byte*>(mapping), size};
  auto index = parse_gguf(state->bytes);
  if (!index)
    return fail(index.error().code, fmt::format("{}: {}", path.string(), index.error().message));
  state->index = std::move(*index);
  return gguf_file(std::move(state));
}

result<gguf_file> gguf_file::parse(std::span<const std::byte> bytes) {
  auto index = parse_gguf(bytes);
  if (!index) return tl::unexpected<error>(std::move(index.error()));
  auto state = std::make_unique<impl>();
  state->bytes = bytes;
  state->index = std::move(*index);
  return gguf_file(std::move(state));
}

std::uint32_t gguf_file::version() const noexcept {
  return impl_->index.version;
}
std::uint64_t gguf_file::file_bytes() const noexcept {
  return impl_->bytes.size();
}
std::span<const gguf_entry> gguf_file::entries() const noexcept {
  return impl_->index.entries;
}
std::span<const gguf_tensor> gguf_file::tensors() const noexcept {
  return impl_->index.tensors;
}

const gguf_value* gguf_file::find(std::string_view key) const noexcept {
  const auto& entries = impl_->index.entries;
  const auto& order = impl_->index.entries_by_key;
  const auto found =
      std::ranges::lower_bound(order, key, {}, [&](std::uint32_t i) { return entries[i].key; });
  if (found == order.end() || entries[*found].key != key) return nullptr;
  return &entries[*found].value;
}

const gguf_tensor* gguf_file::find_tensor(std::string_view name) const noexcept {
  const auto& tensors = impl_->index.tensors;
  const auto& order = impl_->index.tensors_by_name;
  const auto found =
      std::ranges::lower_bound(order, name, {}, [&](std::uint32_t i) { return tensors[i].name; });
  if (found == order.end() || tensors[*found].name != name) return nullptr;
  return &tensors[*found];
}

std::optional<std::uint64_t> gguf_file::get_uint(std::string_view key) const noexcept {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(value); number != nullptr && *number >= 0)
    return static_cast<std::uint64_t>(*number);
  return std::nullopt;
}

std::optional<double> gguf_file::get_float(std::string_view key) const noexcept {
  const auto* number = std::get_if<double>(find(key));
  return number == nullptr ? std::nullopt : std::optional<double>(*number);
}

std::optional<bool> gguf_file::get_bool(std::string_view key) const noexcept {
  const auto* flag = std::get_if<bool>(find(key));
  return flag == nullptr ? std::nullopt : std::optional<bool>(*flag);
}

std::optional<std::string_view> gguf_file::get_string(std::string_view key) const noexcept {
  const auto* text = std::get_if<std::string_view>(find(key));
  return text == nullptr ? std::nullopt : std::optional<std::string_view>(*text);
}

const gguf_array* gguf_file::get_array(std::string_view key) const noexcept {
  return std::get_if<gguf_array>(find(key));
}

std::span<const std::byte> gguf_file::data(const gguf_tensor& tensor) const noexcept {
  return impl_->bytes.subspan(tensor.offset, tensor.size_bytes);
}

void gguf_file::drop(const gguf_tensor& tensor) const noexcept {
  if (impl_->mapping == nullptr) return;
  // Whole pages inside the tensor only: the pages at its ends also hold its neighbours.
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = (tensor.offset + page - 1) / page * page;
  const std::uint64_t end = (tensor.offset + tensor.size_bytes) / page * page;
  if (begin >= end) return;
  ::madvise(static_cast<std::byte*>(impl_->mapping) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace quire
