#include "models/jinja/lexer.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "models/jinja/text.hpp"
#include "models/jinja/value.hpp"

namespace quire::jinja {
namespace {

constexpr std::size_t npos = std::string_view::npos;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// What follows \x, \u or \U: `count` hexadecimal digits.
std::optional<char32_t> hex_digits(std::string_view digits, std::size_t count) {
  if (digits.size() < count) return {};
  std::uint32_t point = 0;
  const char* const end = digits.data() + count;
  if (std::from_chars(digits.data(), end, point, 16).ptr != end) return {};
  return static_cast<char32_t>(point);
}

class lexer {
 public:
  explicit lexer(std::string_view source) : source_(source) {}

  std::vector<token> run() {
    while (at_ < source_.size()) read_data();
    add(token_kind::end, at_, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::size_t offset, std::string message) const {
    throw failure{errc::invalid_argument, std::move(message), offset};
  }

  void add(token_kind kind, std::size_t offset, std::string_view text) {
    tokens_.push_back({kind, std::string(text), offset});
  }

  std::string_view rest() const { return source_.substr(at_); }

  void skip_space() {
    while (at_ < source_.size()) {
      std::size_t next = at_;
      if (!is_space(next_point(source_, next))) return;
      at_ = next;
    }
  }

  /// Text up to the next tag, and that tag's beginning.
  void read_data() {
    std::size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == npos || tag + 1 == source_.size()) return finish_data();
      const char second = source_[tag + 1];
      if (second == '%' || second == '#' || second == '{') break;
      ++tag;
    }
    const char second = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    add_data(source_.substr(at_, tag - at_), sign, second != '{');
    at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
    if (second == '#') return read_comment(tag);
    if (second == '{') {
      add(token_kind::variable_begin, tag, "{{");
      return read_code("}}", token_kind::variable_end);
    }
    if (is_raw_begin()) return read_raw(tag);
    add(token_kind::block_begin, tag, "{%");
    read_code("%}", token_kind::block_end);
  }

  void finish_data() {
    add_data(rest(), '+', false);
    at_ = source_.size();
  }

  /// Adds text before a tag whose first character after the bracket is `sign`.
  void add_data(std::string_view data, char sign, bool is_block) {
    if (sign == '-') {
      data = strip(data, strip_side::right);
    } else if (sign != '+' && is_block) {
      const std::size_t line = data.rfind('\n') + 1;  // 0 when there is none
      const std::string_view tail = data.substr(line);
      if ((line > 0 || line_starting_) && strip(tail, strip_side::left).empty())
        data = data.substr(0, line);
    }
    if (!data.empty()) add(token_kind::data, at_, data);
  }

  /// Eats the end of a tag at `at_`, `-%}`, `+%}` or `%}`, with the space that it trims.
  bool skip_tag_end(std::string_view bracket, bool trims_newline) {
    const bool minus = rest().starts_with('-') && rest().substr(1).starts_with(bracket);
    const bool plus =
        trims_newline && rest().starts_with('+') && rest().substr(1).starts_with(bracket);
    if (!minus && !plus && !rest().starts_with(bracket)) return false;
    at_ += bracket.size() + (minus || plus ? 1 : 0);
    if (minus)
      skip_space();
    else if (!plus && trims_newline && rest().starts_with('\n'))
      ++at_;
    line_starting_ = source_[at_ - 1] == '\n';
    return true;
  }

  void read_comment(std::size_t begin) {
    for (; at_ < source_.size(); ++at_)
      if (skip_tag_end("#}", true)) return;
    fail(begin, "a comment is not closed by #}");
  }

  /// Whether `raw` and the end of its tag follow; then they are eaten.
  bool is_raw_begin() {
    const std::size_t start = at_;
    skip_space();
    if (rest().starts_with("raw")) {
      at_ += 3;
      skip_space();
      if (skip_tag_end("%}", false)) return true;
    }
    at_ = start;
    return false;
  }

  void read_raw(std::size_t begin) {
    for (std::size_t tag = source_.find("{%", at_); tag != npos;
         tag = source_.find("{%", tag + 2)) {
      const std::size_t data = at_;
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      skip_space();
      if (rest().starts_with("endraw")) {
        at_ += 6;
        skip_space();
        const std::size_t end = at_;
        at_ = data;
        if (ends_tag(end)) {
          add_data(source_.substr(data, tag - data), sign, true);
          at_ = end;
          skip_tag_end("%}", true);
          return;
        }
      }
      at_ = data;
    }
    fail(begin, "a raw block is not closed by {% endraw %}");
  }

  bool ends_tag(std::size_t at) const {
    const std::string_view tail = source_.substr(at);
    return tail.starts_with("%}") || tail.starts_with("-%}") || tail.starts_with("+%}");
  }

  /// The tokens of a tag, up to and with its end. Inside of brackets an end does not count.
  void read_code(std::string_view bracket, token_kind end_kind) {
    const std::size_t begin = at_;
    std::string open;
    while (at_ < source_.size()) {
      const std::size_t start = at_;
      if (open.empty() && skip_tag_end(bracket, end_kind == token_kind::block_end))
        return add(end_kind, start, bracket);
      std::size_t next = at_;
      const char32_t point = next_point(source_, next);
      if (is_space(point))
        at_ = next;
      else if (point == '\'' || point == '"')
        read_string();
      else if (is_digit(source_[at_]))
        read_number();
      else if (point == '_' || is_alpha(point))
        read_name();
      else
        read_symbol(open);
    }
    fail(begin, fmt::format("a tag is not closed by {}", bracket));
  }

  void read_name() {
    const std::size_t start = at_;
    while (at_ < source_.size()) {
      std::size_t next = at_;
      const char32_t point = next_point(source_, next);
      if (point != '_' && !is_alpha(point) && !is_decimal(point)) break;
      at_ = next;
    }
    add(token_kind::name, start, source_.substr(start, at_ - start));
  }

  void read_symbol(std::string& open) {
    constexpr std::string_view symbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view symbol : symbols) {
      if (!rest().starts_with(symbol)) continue;
      const char c = symbol[0];
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != c) fail(at_, fmt::format("unexpected '{}'", c));
        open.pop_back();
      }
      add(token_kind::symbol, at_, symbol);
      at_ += symbol.size();
      return;
    }
    fail(at_, fmt::format("unexpected character '{}'", source_[at_]));
  }

  /// Digits with single underscores between them, without the underscores.
  std::string read_digits(int base) {
    std::string digits;
    while (at_ < source_.size()) {
      const std::size_t digit = at_ + (source_[at_] == '_' ? 1 : 0);
      if (digit >= source_.size()) break;
      const char c = source_[digit];
      const char folded = static_cast<char>(c | 0x20);
      const int number = is_digit(c)                      ? c - '0'
                         : folded >= 'a' && folded <= 'f' ? folded - 'a' + 10
                                                          : 99;
      if (number >= base) break;
      digits += c;
      at_ = digit + 1;
    }
    return digits;
  }

  void read_number() {
    const std::size_t start = at_;
    int base = 10;
    if (source_[at_] == '0' && at_ + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[at_ + 1] | 0x20);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (base != 10) at_ += 2;
    }
    std::string digits = read_digits(base);
    const bool after_dot = start > 0 && source_[start - 1] == '.';  // x.0.1 is two subscripts
    const std::string fraction = base == 10 && !after_dot ? read_fraction() : "";
    if (!fraction.empty()) {
      const std::string all = digits + fraction;
      token number{token_kind::real, all, start};
      const auto parsed = std::from_chars(all.data(), all.data() + all.size(), number.real);
      if (parsed.ec == std::errc::result_out_of_range) fail(start, "the number is too large");
      tokens_.push_back(std::move(number));
      return;
    }
    token number{token_kind::integer, digits, start};
    const char* const end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, number.integer, base);
    if (parsed.ec != std::errc() || parsed.ptr != end)
      fail(start, digits.empty() ? "a number lacks its digits" : "the integer is too large");
    tokens_.push_back(std::move(number));
  }

  /// `.5`, `.5e3` or `e3` after an integer, or nothing: `1.` is an integer and a dot.
  std::string read_fraction() {
    std::string text;
    if (at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1])) {
      ++at_;
      text = fmt::format(".{}", read_digits(10));
    }
    std::size_t digit = at_ + 1;
    if (at_ < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      std::string sign;
      if (digit < source_.size() && (source_[digit] == '+' || source_[digit] == '-'))
        sign = source_[digit] == '-' ? "-" : "", ++digit;
      if (digit < source_.size() && is_digit(source_[digit])) {
        at_ = digit;
        text += fmt::format("e{}{}", sign, read_digits(10));
      }
    }
    return text;
  }

  void read_string() {
    const std::size_t start = at_;
    const char quote = source_[at_++];
    std::string text;
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size())
        read_escape(text);
      else
        text += source_[at_++];
    }
    if (at_ == source_.size()) fail(start, "a string is not closed");
    ++at_;
    add(token_kind::string, start, text);
  }

  void read_escape(std::string& text) {
    const std::size_t start = at_;
    const char c = source_[at_ + 1];
    at_ += 2;
    constexpr std::string_view letters = "abfnrtv\\'\"";
    constexpr std::string_view meanings = "\a\b\f\n\r\t\v\\'\"";
    if (const std::size_t letter = letters.find(c); letter != npos) {
      text += meanings[letter];
    } else if (c == '\n') {
      // an escaped line end joins the lines
    } else if (c >= '0' && c <= '7') {
      std::uint32_t point = 0;
      --at_;
      for (int i = 0; i < 3 && at_ < source_.size() && source_[at_] >= '0' && source_[at_] <= '7';
           ++i)
        point = point * 8 + static_cast<std::uint32_t>(source_[at_++] - '0');
      append_point(text, static_cast<char32_t>(point));
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      const std::optional<char32_t> point = hex_digits(rest(), count);
      if (!point || *point > 0x10FFFF || (*point >= 0xD800 && *point < 0xE000))
        fail(start, fmt::format("\\{} needs {} hexadecimal digits of a character", c, count));
      append_point(text, *point);
      at_ += count;
    } else if (c == 'N') {
      throw failure{errc::unsupported, "characters by name, \\N{...}, are not supported", start};
    } else {
      text += '\\';
      --at_;  // an unknown escape stands for itself
    }
  }

  std::string_view source_;
  std::size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<token> tokens_;
};

}  // namespace

std::string normalize_source(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::vector<token> tokenize_template(std::string_view source) {
  return lexer(source).run();
}

}  // namespace quire::jinja
