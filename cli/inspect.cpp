// `quire inspect`: what a model file holds, what of it is supported, and what is missing.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/model_path.hpp"
#include "cli/program.hpp"
#include "compute/tensor_type.hpp"
#include "models/architecture.hpp"
#include "models/chat_template.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire::cli {
namespace {

using json = nlohmann::ordered_json;

struct inspect_options {
  std::string model;
  bool as_json = false;
};

// More of an array says nothing to a reader; vocabularies have a quarter of a million entries.
constexpr std::size_t shown_elements = 6;
constexpr std::size_t shown_text = 60;

constexpr std::string_view type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};

std::string_view name_of(gguf_type type) {
  const auto index = static_cast<std::size_t>(type);
  return index < std::size(type_names) ? type_names[index] : "unknown";
}

std::string tensor_type_name(std::uint32_t number) {
  const tensor_type_traits* traits = find_tensor_type(number);
  return traits != nullptr ? std::string(traits->name) : fmt::format("type {}", number);
}

template <class T>
json read_as(std::span<const std::byte> bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

json element(const gguf_array& array, std::size_t index) {
  switch (array.element) {
    case gguf_type::u8:
      return read_as<std::uint8_t>(array.bytes, index);
    case gguf_type::i8:
      return read_as<std::int8_t>(array.bytes, index);
    case gguf_type::u16:
      return read_as<std::uint16_t>(array.bytes, index);
    case gguf_type::i16:
      return read_as<std::int16_t>(array.bytes, index);
    case gguf_type::u32:
      return read_as<std::uint32_t>(array.bytes, index);
    case gguf_type::i32:
      return read_as<std::int32_t>(array.bytes, index);
    case gguf_type::f32:
      return read_as<float>(array.bytes, index);
    case gguf_type::boolean:
      return read_as<std::uint8_t>(array.bytes, index) != json(0);
    case gguf_type::u64:
      return read_as<std::uint64_t>(array.bytes, index);
    case gguf_type::i64:
      return read_as<std::int64_t>(array.bytes, index);
    case gguf_type::f64:
      return read_as<double>(array.bytes, index);
    case gguf_type::string:
      return std::string(array.strings[index]);
    case gguf_type::array:
      break;
  }
  return nullptr;
}

json value_as_json(const gguf_value& value) {
  if (const auto* array = std::get_if<gguf_array>(&value)) {
    json first = json::array();
    for (std::size_t i = 0; i < std::min<std::uint64_t>(array->count, shown_elements); ++i)
      first.push_back(element(*array, i));
    return {{"element", name_of(array->element)}, {"count", array->count}, {"first", first}};
  }
  if (const auto* text = std::get_if<std::string_view>(&value)) return std::string(*text);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  return std::get<std::uint64_t>(value);
}

struct type_total {
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
  std::uint64_t values = 0;
};

std::map<std::uint32_t, type_total> totals_by_type(const gguf_file& file) {
  std::map<std::uint32_t, type_total> totals;
  for (const gguf_tensor& tensor : file.tensors()) {
    type_total& total = totals[tensor.type_number];
    total.tensors += 1;
    total.bytes += tensor.size_bytes;
    total.values += tensor.num_values();
  }
  return totals;
}

/// Everything that stands between this file and generation; empty when nothing does.
std::vector<std::string> missing_parts(const gguf_file& file) {
  std::vector<std::string> missing;
  if (const auto config = read_model_config(file); !config)
    missing.push_back(config.error().message);
  if (file.tensors().empty()) missing.emplace_back("the file has no tensors, only a vocabulary");
  for (const auto& [number, total] : totals_by_type(file)) {
    const tensor_type_traits* traits = find_tensor_type(number);
    if (traits == nullptr || !traits->supported)
      missing.push_back(fmt::format("tensor type {} of {} tensors is not supported",
                                    tensor_type_name(number), total.tensors));
  }
  if (const auto vocabulary = load_tokenizer(file); !vocabulary)
    missing.push_back(vocabulary.error().message);
  if (const auto source = file.get_string("tokenizer.chat_template"))
    if (const auto parsed = chat_template::parse(*source); !parsed)
      missing.push_back("chat template: " + parsed.error().message);
  return missing;
}

std::vector<std::uint64_t> shape_of(const gguf_tensor& tensor) {
  return {tensor.dims.begin(), tensor.dims.begin() + tensor.num_dims};
}

void print_json(const std::string& path, const gguf_file& file,
                const std::vector<std::string>& missing) {
  json metadata = json::object();
  for (const gguf_entry& entry : file.entries())
    metadata[std::string(entry.key)] = value_as_json(entry.value);
  json types = json::object();
  std::uint64_t parameters = 0;
  for (const auto& [number, total] : totals_by_type(file)) {
    types[tensor_type_name(number)] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
    parameters += total.values;
  }
  json tensors = json::array();
  for (const gguf_tensor& tensor : file.tensors())
    tensors.push_back({{"name", std::string(tensor.name)},
                       {"type", tensor_type_name(tensor.type_number)},
                       {"shape", shape_of(tensor)},
                       {"offset", tensor.offset},
                       {"bytes", tensor.size_bytes}});
  const json line{{"file", path},
                  {"format", fmt::format("GGUF v{}", file.version())},
                  {"file_bytes", file.file_bytes()},
                  {"architecture", file.get_string("general.architecture").value_or("")},
                  {"parameters", parameters},
                  {"supported", missing.empty()},
                  {"missing", missing},
                  {"tensor_types", types},
                  {"metadata", metadata},
                  {"tensors", tensors}};
  fmt::print("{}\n", line.dump(-1, ' ', false, json::error_handler_t::replace));
}

/// One line of printable text: control characters escaped, long values cut.
std::string for_people(const gguf_value& value) {
  const json as_json = value_as_json(value);
  if (as_json.is_object())
    return fmt::format("{} x {} {}", as_json["count"].get<std::uint64_t>(),
                       as_json["element"].get<std::string>(),
                       as_json["first"].dump(-1, ' ', true, json::error_handler_t::replace));
  const std::string text = as_json.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() <= shown_text) return text;
  return fmt::format("{}... ({} characters)", text.substr(0, shown_text), text.size());
}

/// A name of the file as printable text.
std::string printable(std::string_view name) {
  const std::string quoted =
      json(std::string(name)).dump(-1, ' ', true, json::error_handler_t::replace);
  return quoted.substr(1, quoted.size() - 2);
}

void print_text(const std::string& path, const gguf_file& file,
                const std::vector<std::string>& missing) {
  fmt::print("{}\nGGUF v{}, {:.1f} MiB, {} metadata entries, {} tensors\n\n", path, file.version(),
             static_cast<double>(file.file_bytes()) / 1048576.0, file.entries().size(),
             file.tensors().size());
  for (const gguf_entry& entry : file.entries())
    fmt::print("{:<44} {:<7} {}\n", printable(entry.key), name_of(entry.type),
               for_people(entry.value));
  fmt::print("\n");
  for (const gguf_tensor& tensor : file.tensors())
    fmt::print("{:<44} {:<7} {:<20} {:>12} bytes at {}\n", printable(tensor.name),
               tensor_type_name(tensor.type_number),
               fmt::format("{}", fmt::join(shape_of(tensor), " x ")), tensor.size_bytes,
               tensor.offset);
  fmt::print("\n");
  for (const auto& [number, total] : totals_by_type(file))
    fmt::print("{:<7} {:>5} tensors {:>10.1f} MiB {:>14} values\n", tensor_type_name(number),
               total.tensors, static_cast<double>(total.bytes) / 1048576.0, total.values);
  if (missing.empty()) {
    fmt::print("\nsupported: quire can run this file\n");
    return;
  }
  fmt::print("\nnot supported:\n");
  for (const std::string& part : missing) fmt::print("- {}\n", part);
}

result<int> inspect(const inspect_options& options) {
  auto path = resolve_model(options.model);
  if (!path) return tl::unexpected(path.error());
  auto file = gguf_file::open(*path);
  if (!file) return tl::unexpected(file.error());
  const auto missing = missing_parts(*file);
  (options.as_json ? print_json : print_text)(path->string(), *file, missing);
  return 0;
}

}  // namespace

void add_inspect(program& quire) {
  auto [command, options] = quire.add<inspect_options>(
      "inspect", "Print a model file's metadata, tensors, and what of it is supported", &inspect);
  command->add_option("model", options->model,
                      "GGUF file or model name (default: the default model)");
  command->add_flag("--json", options->as_json, "Print one JSON object");
}

}  // namespace quire::cli
