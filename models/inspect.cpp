#include "models/inspect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string_view>

#include "compute/tensor_type.hpp"
#include "models/architecture.hpp"
#include "models/chat_template.hpp"
#include "models/gguf_parse.hpp"
#include "models/tokenizer.hpp"

namespace quire {

namespace {

using json = nlohmann::ordered_json;

// More of an array says nothing to a reader; vocabularies have a quarter of a million entries.
constexpr std::uint64_t shown_elements = 6;
constexpr std::size_t shown_text = 60;
constexpr double mebibyte = 1048576.0;

std::string tensor_type_name(std::uint32_t number) {
  const tensor_type_traits* traits = find_tensor_type(number);
  return traits != nullptr ? std::string(traits->name) : fmt::format("type {}", number);
}

template <class T>
T read_element(const gguf_array& array, std::uint64_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

/// A floating-point number as JSON, which has no words for infinities and NaN.
json number_as_json(double value) {
  return std::isfinite(value) ? json(value) : json(fmt::format("{}", value));
}

json element_as_json(const gguf_array& array, std::uint64_t index) {
  switch (array.element) {
    case gguf_type::u8:
      return read_element<std::uint8_t>(array, index);
    case gguf_type::i8:
      return read_element<std::int8_t>(array, index);
    case gguf_type::u16:
      return read_element<std::uint16_t>(array, index);
    case gguf_type::i16:
      return read_element<std::int16_t>(array, index);
    case gguf_type::u32:
      return read_element<std::uint32_t>(array, index);
    case gguf_type::i32:
      return read_element<std::int32_t>(array, index);
    case gguf_type::f32:
      return number_as_json(read_element<float>(array, index));
    case gguf_type::boolean:
      return read_element<std::uint8_t>(array, index) != 0;
    case gguf_type::u64:
      return read_element<std::uint64_t>(array, index);
    case gguf_type::i64:
      return read_element<std::int64_t>(array, index);
    case gguf_type::f64:
      return number_as_json(read_element<double>(array, index));
    case gguf_type::string:
      return std::string(array.strings[index]);
    case gguf_type::array:
      break;  // refused when the file is read
  }
  return nullptr;
}

json value_as_json(const gguf_value& value) {
  if (const auto* array = std::get_if<gguf_array>(&value)) {
    json first = json::array();
    for (std::uint64_t i = 0; i < std::min(array->count, shown_elements); ++i)
      first.push_back(element_as_json(*array, i));
    return {{"element", gguf_type_name(array->element)}, {"count", array->count}, {"first", first}};
  }
  if (const auto* text = std::get_if<std::string_view>(&value)) return std::string(*text);
  if (const auto* number = std::get_if<double>(&value)) return number_as_json(*number);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  return std::get<std::uint64_t>(value);
}

/// JSON in ASCII, bytes that are not UTF-8 replaced.
std::string ascii_dump(const json& value) {
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string value_as_text(const gguf_value& value) {
  const json full = value_as_json(value);
  if (full.is_object())
    return fmt::format("{} x {} {}", full["count"].get<std::uint64_t>(),
                       full["element"].get<std::string>(), ascii_dump(full["first"]));
  const std::string text = ascii_dump(full);
  if (text.size() <= shown_text) return text;
  const std::size_t size =
      full.is_string() ? std::get<std::string_view>(value).size() : text.size();
  return fmt::format("{}... ({} bytes)", text.substr(0, shown_text), size);
}

std::string name_as_text(std::string_view name) {
  const std::string quoted = ascii_dump(json(std::string(name)));
  return quoted.substr(1, quoted.size() - 2);
}

std::vector<std::uint64_t> shape_of(const gguf_tensor& tensor) {
  return {tensor.dims.begin(), tensor.dims.begin() + tensor.num_dims};
}

std::vector<tensor_type_total> totals_by_type(const gguf_file& file) {
  std::map<std::uint32_t, tensor_type_total> totals;
  for (const gguf_tensor& tensor : file.tensors()) {
    tensor_type_total& total = totals[tensor.type_number];
    total.num_tensors += 1;
    total.num_values += tensor.num_values();
    total.size_bytes += tensor.size_bytes;
  }
  std::vector<tensor_type_total> out;
  for (auto& [number, total] : totals) {
    const tensor_type_traits* traits = find_tensor_type(number);
    total.name = tensor_type_name(number);
    total.supported = traits != nullptr && traits->supported;
    out.push_back(std::move(total));
  }
  return out;
}

}  // namespace

model_report inspect_model(const gguf_file& file) {
  model_report report;
  report.architecture = file.get_string("general.architecture").value_or("");
  report.types = totals_by_type(file);
  auto& missing = report.missing;
  if (const auto config = read_model_config(file); !config)
    missing.push_back(config.error().message);
  if (file.tensors().empty()) missing.emplace_back("the file has no tensors, only a vocabulary");
  for (const auto& total : report.types) {
    report.num_parameters += total.num_values;
    if (total.supported) continue;
    const bool unknown = total.name.starts_with("type ");
    missing.push_back(fmt::format("tensor {}{} of {} tensors is not supported",
                                  unknown ? "" : "type ", total.name, total.num_tensors));
  }
  if (const auto words = load_tokenizer(file); !words) missing.push_back(words.error().message);
  if (const auto source = file.get_string("tokenizer.chat_template"))
    if (const auto parsed = chat_template::parse(*source); !parsed)
      missing.push_back("chat template: " + parsed.error().message);
  return report;
}

nlohmann::ordered_json to_json(const gguf_file& file, const model_report& report) {
  json metadata = json::object();
  for (const gguf_entry& entry : file.entries())
    metadata[std::string(entry.key)] = value_as_json(entry.value);
  json types = json::object();
  for (const auto& total : report.types)
    types[total.name] = {{"tensors", total.num_tensors},
                         {"values", total.num_values},
                         {"bytes", total.size_bytes},
                         {"supported", total.supported}};
  json tensors = json::array();
  for (const gguf_tensor& tensor : file.tensors())
    tensors.push_back({{"name", std::string(tensor.name)},
                       {"type", tensor_type_name(tensor.type_number)},
                       {"shape", shape_of(tensor)},
                       {"offset", tensor.offset},
                       {"bytes", tensor.size_bytes}});
  return {{"format", fmt::format("GGUF v{}", file.version())},
          {"file_bytes", file.file_bytes()},
          {"architecture", report.architecture},
          {"parameters", report.num_parameters},
          {"supported", report.supported()},
          {"missing", report.missing},
          {"tensor_types", types},
          {"metadata", metadata},
          {"tensors", tensors}};
}

std::string to_text(const gguf_file& file, const model_report& report) {
  std::string out = fmt::format("GGUF v{}, {:.1f} MiB, {} metadata entries, {} tensors\n\n",
                                file.version(), static_cast<double>(file.file_bytes()) / mebibyte,
                                file.entries().size(), file.tensors().size());
  for (const gguf_entry& entry : file.entries())
    out += fmt::format("{:<44} {:<7} {}\n", name_as_text(entry.key), gguf_type_name(entry.type),
                       value_as_text(entry.value));
  out += '\n';
  for (const gguf_tensor& tensor : file.tensors())
    out += fmt::format("{:<44} {:<7} {:<20} {:>12} bytes at {}\n", name_as_text(tensor.name),
                       tensor_type_name(tensor.type_number),
                       fmt::format("{}", fmt::join(shape_of(tensor), " x ")), tensor.size_bytes,
                       tensor.offset);
  out += '\n';
  for (const auto& total : report.types)
    out += fmt::format("{:<7} {:>5} tensors {:>10.1f} MiB {:>14} values\n", total.name,
                       total.num_tensors, static_cast<double>(total.size_bytes) / mebibyte,
                       total.num_values);
  if (report.supported()) return out + "\nsupported: quire can run this file\n";
  out += "\nnot supported:\n";
  for (const std::string& part : report.missing) out += fmt::format("- {}\n", part);
  return out;
}

}  // namespace quire
