#include "memory/replay_line.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace quire {
namespace {

using json = nlohmann::json;

/// Fills a replay_line while the parser reads, without building a document.
class line_reader final : public nlohmann::json_sax<json> {
 public:
  explicit line_reader(replay_line& line) : line_(line) {}

  const std::string& problem() const { return problem_; }

  bool start_object(std::size_t) override {
    if (depth_++ == 0) return true;
    return refuse("holds an object");
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return refuse_line("is no JSON object");
    if (key_ != "values" || in_values_) return refuse("holds an array");
    in_values_ = true;
    line_.values.emplace();
    return true;
  }
  bool end_array() override {
    in_values_ = false;
    return true;
  }
  bool key(std::string& name) override {
    key_ = name;
    return true;
  }
  bool null() override { return refuse("is null"); }
  bool boolean(bool) override { return depth_ == 0 ? refuse_line("is no JSON object") : known(); }
  bool number_integer(std::int64_t value) override {
    if (in_values_ || key_ == "threshold") return number(static_cast<double>(value));
    return number_field() == nullptr ? other_field() : refuse("is negative");
  }
  bool number_unsigned(std::uint64_t value) override {
    if (in_values_ || key_ == "threshold") return number(static_cast<double>(value));
    if (auto* field = number_field()) {
      *field = value;
      return true;
    }
    return other_field();
  }
  bool number_float(double value, const std::string&) override {
    if (in_values_ || key_ == "threshold") return number(value);
    return number_field() == nullptr ? other_field() : refuse("is no whole number");
  }
  bool string(std::string& text) override {
    if (depth_ == 0) return refuse_line("is no JSON object");
    if (in_values_) return refuse("holds a string");
    if (auto* field = text_field()) {
      *field = std::move(text);
      return true;
    }
    return number_field() == nullptr && key_ != "threshold" && key_ != "values"
               ? true
               : refuse("is a string");
  }
  bool binary(binary_t&) override { return refuse("is binary"); }
  bool parse_error(std::size_t at, const std::string&, const json::exception& why) override {
    // 406 is a number past the range of double: well-formed, but not finite.
    return refuse_line(why.id == 406 ? "holds a number that is out of range"
                                     : "is no JSON: error at character " + std::to_string(at));
  }

 private:
  bool refuse(const std::string& what) { return refuse_line("\"" + key_ + "\" " + what); }
  bool refuse_line(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
    return false;
  }
  bool known() {
    return text_field() == nullptr && number_field() == nullptr ? true : refuse("is a boolean");
  }
  bool other_field() {
    if (depth_ == 0) return refuse_line("is no JSON object");
    return text_field() == nullptr && key_ != "values" ? true : refuse("is a number");
  }
  bool number(double value) {
    if (in_values_)
      line_.values->push_back(static_cast<float>(value));
    else
      line_.threshold = value;
    return true;
  }
  std::optional<std::string>* text_field() {
    const std::array<std::pair<std::string_view, std::optional<std::string>*>, 7> fields{
        {{"op", &line_.op},
         {"seq", &line_.seq},
         {"as", &line_.as},
         {"what", &line_.what},
         {"type", &line_.type},
         {"k_type", &line_.k_type},
         {"v_type", &line_.v_type}}};
    for (const auto& [name, field] : fields)
      if (name == key_) return field;
    return nullptr;
  }
  std::optional<std::uint64_t>* number_field() {
    const std::array<std::pair<std::string_view, std::optional<std::uint64_t>*>, 10> fields{
        {{"tokens", &line_.tokens},
         {"pos", &line_.pos},
         {"head", &line_.head},
         {"layer", &line_.layer},
         {"max_moves", &line_.max_moves},
         {"pages", &line_.pages},
         {"page_tokens", &line_.page_tokens},
         {"layers", &line_.layers},
         {"kv_heads", &line_.kv_heads},
         {"head_dim", &line_.head_dim}}};
    for (const auto& [name, field] : fields)
      if (name == key_) return field;
    return nullptr;
  }

  replay_line& line_;
  std::string key_;
  std::string problem_;
  int depth_ = 0;
  bool in_values_ = false;
};

template <class T>
void append_number(std::string& out, T value) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out.append(digits.data(), end);
}

// Shortest text that reads back as the same number, and that reads back as no integer.
template <class T>
void append_real(std::string& out, T value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  const std::size_t begin = out.size();
  append_number(out, value);
  if (out.find_first_of(".e", begin) == std::string::npos) out += ".0";
}

}  // namespace

result<replay_line> replay_line::parse(std::string_view text) {
  replay_line line;
  line_reader reader(line);
  if (json::sax_parse(text.begin(), text.end(), &reader)) return line;
  return fail(errc::invalid_argument, reader.problem());
}

replay_answer::replay_answer(std::string& out, bool ok) : out_(out) {
  out_ += ok ? "{\"ok\":true" : "{\"ok\":false";
}

replay_answer::~replay_answer() {
  out_ += "}\n";
}

void replay_answer::key(std::string_view name) {
  out_ += ",\"";
  out_ += name;
  out_ += "\":";
}

replay_answer& replay_answer::add(std::string_view name, std::uint64_t value) {
  key(name);
  append_number(out_, value);
  return *this;
}

replay_answer& replay_answer::add(std::string_view name, double value) {
  key(name);
  append_real(out_, value);
  return *this;
}

replay_answer& replay_answer::add(std::string_view name, bool value) {
  key(name);
  out_ += value ? "true" : "false";
  return *this;
}

replay_answer& replay_answer::add(std::string_view name, std::string_view text) {
  key(name);
  out_ += json(text).dump(-1, ' ', false, json::error_handler_t::replace);
  return *this;
}

replay_answer& replay_answer::add(std::string_view name, const std::vector<float>& values) {
  key(name);
  out_ += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out_ += ',';
    append_real(out_, values[i]);
  }
  out_ += ']';
  return *this;
}

replay_answer& replay_answer::add(std::string_view name, const std::vector<std::uint64_t>& values) {
  key(name);
  out_ += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out_ += ',';
    append_number(out_, values[i]);
  }
  out_ += ']';
  return *this;
}

}  // namespace quire
