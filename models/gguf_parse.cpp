#include "models/gguf_parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <string>

namespace quire {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place, little-endian");

namespace {

constexpr std::uint64_t max_key_bytes = 65535;  // the specification's limit for keys
constexpr std::uint64_t min_entry_bytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t min_tensor_bytes = 8 + 1 + 4 + 4 + 8;
constexpr std::uint32_t num_types = 13;

/// Quotes a name from the file for a message: printable, and never longer than a line.
std::string quoted(std::string_view name) {
  constexpr std::size_t longest = 80;
  std::string out = "'";
  for (const char c : name.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += name.size() > longest ? "...'" : "'";
  return out;
}

/// Reads forward through the bytes. The first failure sticks: later reads give zeros and read
/// nothing.
class cursor {
 public:
  explicit cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool ok() const noexcept { return !error_; }
  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t remaining() const noexcept { return bytes_.size() - position_; }
  error take_error() { return std::move(*error_); }

  void reject(std::uint64_t at, std::string_view what) {
    if (!error_) error_ = error{errc::invalid_file, fmt::format("byte {}: {}", at, what), {}};
  }

  std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
    if (!ok()) return {};
    if (count > remaining()) {
      reject(position_,
             fmt::format("{} needs {} bytes but only {} are left (is the file truncated?)", what,
                         count, remaining()));
      return {};
    }
    const auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }

  template <class T>
  T read(std::string_view what) {
    T value{};
    const auto part = take(sizeof(T), what);
    if (part.size() == sizeof(T)) std::memcpy(&value, part.data(), sizeof(T));
    return value;
  }

  std::string_view read_string(std::string_view what) {
    const std::uint64_t at = position_;
    const auto length = read<std::uint64_t>(what);
    if (ok() && length > remaining()) {
      reject(at, fmt::format("{} claims {} bytes but only {} are left", what, length, remaining()));
      return {};
    }
    const auto part = take(length, what);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

  /// Reads a key or a tensor's name.
  std::string_view read_name(std::string_view what) {
    const std::uint64_t at = position_;
    const auto name = read_string(what);
    if (ok() && name.empty()) reject(at, fmt::format("{} is empty", what));
    if (name.size() > max_key_bytes)
      reject(at, fmt::format("{} has {} bytes, more than {}", what, name.size(), max_key_bytes));
    return name;
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
  std::optional<error> error_;
};

gguf_type read_type(cursor& in, std::string_view what) {
  const std::uint64_t at = in.position();
  const auto number = in.read<std::uint32_t>(what);
  if (number >= num_types) {
    in.reject(at, fmt::format("{} is {}, not one of GGUF's value types", what, number));
    return gguf_type::u8;
  }
  return static_cast<gguf_type>(number);
}

bool read_bool(cursor& in, std::string_view what) {
  const std::uint64_t at = in.position();
  const auto value = in.read<std::uint8_t>(what);
  if (value > 1) in.reject(at, fmt::format("{} is a boolean with value {}", what, value));
  return value == 1;
}

gguf_array read_array(cursor& in, std::string_view what) {
  gguf_array array;
  const std::uint64_t at = in.position();
  array.element = read_type(in, fmt::format("the element type of {}", what));
  array.count = in.read<std::uint64_t>(fmt::format("the length of {}", what));
  if (!in.ok()) return array;
  if (array.element == gguf_type::array) {
    in.reject(at, fmt::format("{} is an array of arrays, which no known key uses", what));
    return array;
  }
  const bool strings = array.element == gguf_type::string;
  const std::uint64_t smallest = strings ? 8 : gguf_type_bytes(array.element);
  if (array.count > in.remaining() / smallest) {
    in.reject(at, fmt::format("{} claims {} elements but only {} bytes are left", what, array.count,
                              in.remaining()));
    return array;
  }
  if (!strings) {
    array.bytes = in.take(array.count * smallest, what);
    if (array.element == gguf_type::boolean &&
        std::ranges::any_of(array.bytes, [](std::byte b) { return b > std::byte{1}; }))
      in.reject(at, fmt::format("{} has a boolean that is neither 0 nor 1", what));
    return array;
  }
  array.strings.reserve(array.count);
  for (std::uint64_t i = 0; i < array.count && in.ok(); ++i) {
    const std::uint64_t before = in.position();
    const auto length = in.read<std::uint64_t>("a string's length");
    if (length > in.remaining()) {
      in.reject(before, fmt::format("element {} of {} claims {} bytes but only {} are left", i,
                                    what, length, in.remaining()));
      break;
    }
    const auto part = in.take(length, "a string");
    array.strings.emplace_back(reinterpret_cast<const char*>(part.data()), part.size());
  }
  return array;
}

gguf_value read_value(cursor& in, gguf_type type, std::string_view what) {
  switch (type) {
    case gguf_type::u8:
      return std::uint64_t{in.read<std::uint8_t>(what)};
    case gguf_type::u16:
      return std::uint64_t{in.read<std::uint16_t>(what)};
    case gguf_type::u32:
      return std::uint64_t{in.read<std::uint32_t>(what)};
    case gguf_type::u64:
      return in.read<std::uint64_t>(what);
    case gguf_type::i8:
      return std::int64_t{in.read<std::int8_t>(what)};
    case gguf_type::i16:
      return std::int64_t{in.read<std::int16_t>(what)};
    case gguf_type::i32:
      return std::int64_t{in.read<std::int32_t>(what)};
    case gguf_type::i64:
      return in.read<std::int64_t>(what);
    case gguf_type::f32:
      return static_cast<double>(in.read<float>(what));
    case gguf_type::f64:
      return in.read<double>(what);
    case gguf_type::boolean:
      return read_bool(in, what);
    case gguf_type::string:
      return in.read_string(what);
    case gguf_type::array:
      return read_array(in, what);
  }
  return std::uint64_t{0};
}

gguf_tensor read_tensor(cursor& in, std::uint64_t index) {
  gguf_tensor tensor;
  tensor.name = in.read_name(fmt::format("the name of tensor {}", index));
  const auto what = fmt::format("tensor {}", quoted(tensor.name));
  const std::uint64_t at = in.position();
  tensor.num_dims = in.read<std::uint32_t>(what);
  if (tensor.num_dims > tensor.dims.size()) {
    in.reject(at, fmt::format("{} has {} dimensions, more than 4", what, tensor.num_dims));
    return tensor;
  }
  std::uint64_t num_values = 1;
  for (std::uint32_t i = 0; i < tensor.num_dims; ++i) {
    const std::uint64_t dim = in.read<std::uint64_t>(what);
    tensor.dims[i] = dim;
    if (!in.ok()) return tensor;
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (dim == 0 || dim > most / num_values) {
      in.reject(at, fmt::format("{} has the impossible dimension {}", what, dim));
      return tensor;
    }
    num_values *= dim;
  }
  const std::uint64_t type_at = in.position();
  tensor.type_number = in.read<std::uint32_t>(what);
  tensor.offset = in.read<std::uint64_t>(what);
  const auto* traits = find_tensor_type(tensor.type_number);
  if (!in.ok() || traits == nullptr) return tensor;
  if (tensor.dims[0] % traits->block_values != 0) {
    in.reject(type_at,
              fmt::format("{} has rows of {} values, not a multiple of the {} values in a {} block",
                          what, tensor.dims[0], traits->block_values, traits->name));
    return tensor;
  }
  const std::uint64_t num_blocks = num_values / traits->block_values;
  if (num_blocks > std::numeric_limits<std::uint64_t>::max() / traits->block_bytes) {
    in.reject(at, fmt::format("{} is larger than any file", what));
    return tensor;
  }
  tensor.size_bytes = num_blocks * traits->block_bytes;
  return tensor;
}

/// Sorts the indices of items by name and reports the first duplicate. Sorting, not hashing: a
/// hostile file can choose names, so the worst case counts.
template <class Items, class Name>
std::vector<std::uint32_t> sort_names(cursor& in, const Items& items, Name name,
                                      std::string_view kind) {
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](std::uint32_t i) { return name(items[i]); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::string_view current = name(items[order[i]]);
    if (current == name(items[order[i - 1]])) {
      in.reject(in.position(), fmt::format("{} {} occurs twice", kind, quoted(current)));
      break;
    }
  }
  return order;
}

void read_alignment(cursor& in, gguf_index& index) {
  const auto found =
      std::ranges::find(index.entries, std::string_view("general.alignment"), &gguf_entry::key);
  if (found == index.entries.end()) return;
  const auto* value = std::get_if<std::uint64_t>(&found->value);
  constexpr std::uint64_t largest = 1U << 30U;
  if (value == nullptr || !std::has_single_bit(*value) || *value > largest) {
    in.reject(in.position(), "general.alignment is not a power of two up to 2^30");
    return;
  }
  index.alignment = static_cast<std::uint32_t>(*value);
}

/// Turns tensor offsets into file offsets and checks that each range is in the file, aligned, and
/// not shared: overlapping tensors would let a small file claim any amount of memory.
void place_tensors(cursor& in, gguf_index& index, std::uint64_t file_bytes) {
  const std::uint64_t header_end = in.position();
  const std::uint64_t padding = (index.alignment - header_end % index.alignment) % index.alignment;
  index.data_start = std::min(header_end + padding, file_bytes);
  const std::uint64_t available = file_bytes - index.data_start;
  std::vector<const gguf_tensor*> by_offset;
  by_offset.reserve(index.tensors.size());
  for (auto& tensor : index.tensors) {
    if (tensor.offset % index.alignment != 0) {
      in.reject(
          header_end,
          fmt::format("tensor {} begins at data offset {}, not a multiple of the alignment {}",
                      quoted(tensor.name), tensor.offset, index.alignment));
      return;
    }
    if (tensor.offset > available || tensor.size_bytes > available - tensor.offset) {
      in.reject(header_end,
                fmt::format(
                    "tensor {} needs {} bytes at data offset {}, but the file has {} bytes of data "
                    "(is it truncated?)",
                    quoted(tensor.name), tensor.size_bytes, tensor.offset, available));
      return;
    }
    tensor.offset += index.data_start;
    if (tensor.size_bytes > 0) by_offset.push_back(&tensor);
  }
  std::ranges::sort(by_offset, {}, [](const gguf_tensor* tensor) { return tensor->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const auto& before = *by_offset[i - 1];
    if (before.offset + before.size_bytes > by_offset[i]->offset) {
      in.reject(by_offset[i]->offset, fmt::format("tensors {} and {} overlap", quoted(before.name),
                                                  quoted(by_offset[i]->name)));
      return;
    }
  }
}

struct header {
  std::uint32_t version = 0;
  std::uint64_t num_tensors = 0;
  std::uint64_t num_entries = 0;
};

header read_header(cursor& in) {
  header head;
  const auto magic = in.take(4, "the file's magic");
  if (!in.ok()) return head;
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) {
    in.reject(0, "the file does not begin with 'GGUF'");
    return head;
  }
  head.version = in.read<std::uint32_t>("the version");
  if (in.ok() && head.version != 2 && head.version != 3) {
    const bool swapped = head.version != 0 && (head.version & 0xffffU) == 0;
    in.reject(4, swapped ? std::string("the file is big-endian, which is not read")
                         : fmt::format("GGUF version {} is not read, only 2 and 3", head.version));
    return head;
  }
  head.num_tensors = in.read<std::uint64_t>("the number of tensors");
  head.num_entries = in.read<std::uint64_t>("the number of metadata entries");
  if (in.ok() && head.num_tensors > in.remaining() / min_tensor_bytes)
    in.reject(8, fmt::format("{} tensors cannot be described in the {} bytes that are left",
                             head.num_tensors, in.remaining()));
  if (in.ok() && head.num_entries > in.remaining() / min_entry_bytes)
    in.reject(16, fmt::format("{} metadata entries cannot stand in the {} bytes that are left",
                              head.num_entries, in.remaining()));
  return head;
}

}  // namespace

std::size_t gguf_type_bytes(gguf_type type) noexcept {
  switch (type) {
    case gguf_type::u8:
    case gguf_type::i8:
    case gguf_type::boolean:
      return 1;
    case gguf_type::u16:
    case gguf_type::i16:
      return 2;
    case gguf_type::u32:
    case gguf_type::i32:
    case gguf_type::f32:
      return 4;
    case gguf_type::u64:
    case gguf_type::i64:
    case gguf_type::f64:
      return 8;
    case gguf_type::string:
    case gguf_type::array:
      return 0;
  }
  return 0;
}

std::string_view gguf_type_name(gguf_type type) noexcept {
  static constexpr std::array<std::string_view, num_types> names{
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  const auto number = static_cast<std::size_t>(type);
  return number < names.size() ? names[number] : "unknown";
}

result<gguf_index> parse_gguf(std::span<const std::byte> bytes) {
  cursor in(bytes);
  gguf_index index;
  const header head = read_header(in);
  index.version = head.version;
  for (std::uint64_t i = 0; i < head.num_entries && in.ok(); ++i) {
    gguf_entry entry;
    entry.key = in.read_name(fmt::format("metadata key {}", i));
    const auto what = fmt::format("the value of {}", quoted(entry.key));
    entry.type = read_type(in, fmt::format("the type of {}", quoted(entry.key)));
    if (!in.ok()) break;
    entry.value = read_value(in, entry.type, what);
    index.entries.push_back(std::move(entry));
  }
  for (std::uint64_t i = 0; i < head.num_tensors && in.ok(); ++i)
    index.tensors.push_back(read_tensor(in, i));
  if (in.ok())
    index.entries_by_key = sort_names(
        in, index.entries, [](const auto& e) { return e.key; }, "key");
  if (in.ok())
    index.tensors_by_name = sort_names(
        in, index.tensors, [](const auto& t) { return t.name; }, "tensor");
  if (in.ok()) read_alignment(in, index);
  if (in.ok()) place_tensors(in, index, bytes.size());
  if (!in.ok()) return tl::unexpected<error>(in.take_error());
  return index;
}

}  // namespace quire
