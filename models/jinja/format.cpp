// Python's two ways to format: `"%s" % x` and `"{}".format(x)`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

constexpr std::int64_t max_width = 100'000;

/// The options of one conversion, in the terms of str.format().
struct conversion {
  std::string_view fill = " ";
  char align = '\0';  ///< < > ^ =, or none given
  char sign = '-';    ///< + - or space
  bool alternate = false;
  char grouping = '\0';  ///< , or _
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = '\0';
};

std::string padded(runtime& rt, std::string body, const conversion& c, char default_align,
                   std::size_t sign_length) {
  if (c.width > max_width) rt.fail_limit("formats with too great a width");
  const auto count = static_cast<std::int64_t>(num_points(body));
  if (count >= c.width) return body;
  const std::int64_t missing = c.width - count;
  const char align = c.align != '\0' ? c.align : default_align;
  const std::int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before;
  std::string after;
  for (std::int64_t i = 0; i < missing; ++i) (i < left ? before : after) += c.fill;
  if (align == '=') return body.insert(sign_length, before);
  return fmt::format("{}{}{}", before, body, after);
}

std::string grouped(const std::string& digits, char separator, std::size_t size) {
  if (separator == '\0') return digits;
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % size == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string with_sign(runtime& rt, bool negative, std::string body, const conversion& c,
                      std::string_view prefix = "") {
  std::string sign;
  if (negative || c.sign != '-') sign = negative ? '-' : c.sign;
  return padded(rt, fmt::format("{}{}{}", sign, prefix, body), c, '>', sign.size() + prefix.size());
}

std::string format_integer(runtime& rt, std::int64_t number, const conversion& c) {
  const std::uint64_t magnitude =
      number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
  std::string digits;
  std::string_view prefix;
  switch (c.type) {
    case 'x':
      digits = fmt::format("{:x}", magnitude), prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", magnitude), prefix = "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude), prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude), prefix = "0b";
      break;
    default:
      digits = std::to_string(magnitude);
      break;
  }
  // The least number of digits of printf's precision; str.format() has none for integers.
  while (c.precision > static_cast<std::int64_t>(digits.size()) && c.precision <= max_width)
    digits.insert(
        0, std::min<std::size_t>(16, static_cast<std::size_t>(c.precision) - digits.size()), '0');
  digits = grouped(digits, c.grouping, prefix.empty() ? 3 : 4);
  return with_sign(rt, number < 0, digits, c, c.alternate ? prefix : "");
}

/// `g` of Python with its precision; fmt's presentation is the same but for the sign of exponents.
std::string format_real(runtime& rt, double number, conversion c) {
  if (c.precision > 1000) rt.fail_limit("formats with too great a precision");
  const double magnitude = std::abs(number);
  const auto precision = static_cast<int>(c.precision < 0 ? 6 : c.precision);
  std::string body;
  std::string tail;
  if (!std::isfinite(number)) {
    body = repr(magnitude);
  } else {
    switch (c.type) {
      case 'e':
        body = fmt::format("{:.{}e}", magnitude, precision);
        break;
      case 'E':
        body = fmt::format("{:.{}E}", magnitude, precision);
        break;
      case 'f':
      case 'F':
        body = fmt::format("{:.{}f}", magnitude, precision);
        break;
      case '%':
        body = fmt::format("{:.{}f}", magnitude * 100, precision), tail += '%';
        break;
      case 'g':
        body = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
        break;
      case 'G':
        body = fmt::format("{:.{}G}", magnitude, std::max(precision, 1));
        break;
      default:
        body = c.precision < 0 ? repr(magnitude)
                               : fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
        if (c.precision >= 0 && body.find_first_of(".e") == body.npos) body.append(".0");
    }
  }
  const std::size_t whole = std::min(body.find_first_of(".eE"), body.size());
  if (std::isfinite(number))
    body = grouped(body.substr(0, whole), c.grouping, 3) + body.substr(whole);
  return with_sign(rt, std::signbit(number), body + tail, c);
}

std::string format_text(runtime& rt, std::string_view bytes, const conversion& c) {
  if (c.precision >= 0)
    bytes = bytes.substr(0, point_offset(bytes, static_cast<std::size_t>(c.precision)));
  return padded(rt, std::string(bytes), c, '<', 0);
}

bool is_real_type(char type) {
  return std::string_view("eEfFgG%").find(type) != std::string_view::npos;
}

/// Reads decimal digits at `at`; the result is at most a little above max_width.
std::int64_t read_number(std::string_view spec, std::size_t& at) {
  std::int64_t number = 0;
  for (; at < spec.size() && spec[at] >= '0' && spec[at] <= '9'; ++at)
    number = std::min(number * 10 + (spec[at] - '0'), 10 * max_width);
  return number;
}

conversion read_spec(runtime& rt, std::string_view spec) {
  constexpr std::string_view aligns = "<>=^";
  conversion c;
  std::size_t at = 0;
  std::size_t second = 0;
  if (!spec.empty()) next_point(spec, second);
  if (second < spec.size() && aligns.find(spec[second]) != aligns.npos) {
    c.fill = spec.substr(0, second);
    c.align = spec[second];
    at = second + 1;
  } else if (!spec.empty() && aligns.find(spec[0]) != aligns.npos) {
    c.align = spec[at++];
  }
  const auto take = [&](std::string_view any) {
    return at < spec.size() && any.find(spec[at]) != any.npos ? spec[at++] : '\0';
  };
  if (const char sign = take("+- ")) c.sign = sign;
  c.alternate = take("#") != '\0';
  if (take("0") != '\0' && c.align == '\0') c.fill = "0", c.align = '=';
  c.width = read_number(spec, at);
  c.grouping = take(",_");
  if (take(".") != '\0') c.precision = read_number(spec, at);
  c.type = take("bcdeEfFgGnosxX%");
  if (at != spec.size()) rt.fail(fmt::format("the format '{}' is not valid", spec));
  return c;
}

std::string format_by_spec(runtime& rt, const value& v, std::string_view spec) {
  if (spec.empty()) return std::string(to_text(rt, v));
  conversion c = read_spec(rt, spec);
  std::int64_t number = 0;
  const bool is_bool = std::holds_alternative<bool>(v);
  if (is_integral(v, number) && !(is_bool && c.type == 's')) {
    if (is_real_type(c.type)) return format_real(rt, static_cast<double>(number), c);
    if (c.type == 's') rt.fail("the format 's' takes no integer");
    if (c.precision >= 0) rt.fail("a precision is not allowed for integers");
    return format_integer(rt, number, c);
  }
  if (const auto* d = std::get_if<double>(&v)) {
    if (c.type != '\0' && !is_real_type(c.type))
      rt.fail(fmt::format("the format '{}' takes no float", c.type));
    return format_real(rt, *d, c);
  }
  if (!std::holds_alternative<text>(v))
    rt.fail(fmt::format("'{}' takes no format such as '{}'", type_name(v), spec));
  if (c.type != '\0' && c.type != 's')
    rt.fail(fmt::format("the format '{}' takes no text", c.type));
  if (c.align == '=' && c.fill == "0") c.align = '<';
  return format_text(rt, to_text(rt, v), c);
}

/// printf-style formatting of one format text.
class percent_formatter {
 public:
  percent_formatter(runtime& rt, std::string_view format, const value& args)
      : rt_(rt), format_(format) {
    const auto* s = std::get_if<const sequence*>(&args);
    if (s && (*s)->kind == sequence_kind::tuple)
      values_ = (*s)->items;
    else
      values_ = {args}, is_single_ = true;
    if (const auto* m = std::get_if<const mapping*>(&args)) map_ = *m;
  }

  std::string run() {
    std::string out;
    while (at_ < format_.size()) {
      const std::size_t percent = std::min(format_.find('%', at_), format_.size());
      out += format_.substr(at_, percent - at_);
      at_ = percent;
      if (at_ < format_.size()) out += convert();
      if (out.size() > rt_.limits().arena_bytes) rt_.fail_limit("takes too much memory");
    }
    const bool takes_rest =
        map_ != nullptr || (is_single_ && std::holds_alternative<const sequence*>(values_[0]));
    if (next_ < values_.size() && !takes_rest)
      rt_.fail("not all arguments were used while formatting a text");
    return out;
  }

 private:
  const value& next_value() {
    if (next_ >= values_.size()) rt_.fail("too few arguments for the format");
    return values_[next_++];
  }

  std::int64_t number_or_star() {
    if (at_ < format_.size() && format_[at_] == '*') {
      ++at_;
      return to_int(rt_, next_value(), "the width of a format");
    }
    return read_number(format_, at_);
  }

  std::string convert() {
    ++at_;  // the percent sign
    const value* named = nullptr;
    if (at_ < format_.size() && format_[at_] == '(') {
      const std::size_t close = format_.find(')', at_);
      if (!map_ || close == format_.npos) rt_.fail("the format needs a dict");
      const std::string_view key = format_.substr(at_ + 1, close - at_ - 1);
      named = map_->find(text{key});
      if (!named) rt_.fail(fmt::format("the format's dict has no '{}'", key));
      at_ = close + 1;
    }
    conversion c;
    for (; at_ < format_.size(); ++at_) {
      const char flag = format_[at_];
      if (flag == '-')
        c.align = '<';
      else if (flag == '0')
        zero_ = true;
      else if (flag == '+')
        c.sign = '+';
      else if (flag == ' ')
        c.sign = c.sign == '+' ? '+' : ' ';
      else if (flag == '#')
        c.alternate = true;
      else
        break;
    }
    c.width = number_or_star();
    if (c.width < 0) c.align = '<', c.width = -c.width;
    if (at_ < format_.size() && format_[at_] == '.') {
      ++at_;
      c.precision = std::max<std::int64_t>(number_or_star(), 0);
    }
    while (at_ < format_.size() &&
           std::string_view("hlL").find(format_[at_]) != std::string_view::npos)
      ++at_;
    if (at_ == format_.size()) rt_.fail("the format ends in the middle of a conversion");
    c.type = format_[at_++];
    const bool zero = std::exchange(zero_, false);
    if (c.type == '%') return "%";
    const bool is_text = c.type == 's' || c.type == 'r' || c.type == 'a' || c.type == 'c';
    if (zero && c.align != '<' && !is_text) c.fill = "0", c.align = '=';
    return convert_value(named ? *named : next_value(), c, is_text);
  }

  std::string convert_value(const value& v, conversion c, bool is_text) {
    if (is_text) {
      if (c.align == '\0') c.align = '>';
      std::string body;
      if (c.type == 's')
        append_text(rt_, body, v);
      else if (c.type == 'r')
        append_repr(rt_, body, v);
      else if (c.type == 'c')
        body = character(v);
      else
        rt_.fail("the conversion %a is not supported", errc::unsupported);
      return format_text(rt_, body, c);
    }
    if (!is_number(v)) rt_.fail(fmt::format("%{} takes a number, not '{}'", c.type, type_name(v)));
    if (is_real_type(c.type) && c.type != '%') return format_real(rt_, to_double(v), c);
    std::int64_t number = 0;
    if (c.type == 'd' || c.type == 'i' || c.type == 'u') {
      c.type = 'd';
      if (!is_integral(v, number)) {
        if (!(std::abs(to_double(v)) < 9.2e18)) rt_.fail("the number is too large");
        number = static_cast<std::int64_t>(to_double(v));
      }
      return format_integer(rt_, number, c);
    }
    if (c.type != 'x' && c.type != 'X' && c.type != 'o')
      rt_.fail(fmt::format("%{} is no conversion", c.type));
    return format_integer(rt_, to_int(rt_, v, "what %x shows"), c);
  }

  std::string character(const value& v) {
    std::string body;
    std::int64_t point = 0;
    if (is_integral(v, point)) {
      if (point < 0 || point > 0x10FFFF) rt_.fail("%c takes a character");
      append_point(body, static_cast<char32_t>(point));
      return body;
    }
    append_text(rt_, body, v);
    if (num_points(body) != 1) rt_.fail("%c takes a character");
    return body;
  }

  runtime& rt_;
  std::string_view format_;
  std::vector<value> values_;
  const mapping* map_ = nullptr;
  bool is_single_ = false;
  bool zero_ = false;
  std::size_t next_ = 0;
  std::size_t at_ = 0;
};

/// str.format() of one format text.
class brace_formatter {
 public:
  brace_formatter(runtime& rt, const arguments& args) : rt_(rt), args_(args) {}

  std::string run(std::string_view format, int depth = 0) {
    if (depth > 2) rt_.fail("the format is nested too deeply");
    std::string out;
    for (std::size_t at = 0; at < format.size();) {
      const char c = format[at];
      const bool doubled = at + 1 < format.size() && format[at + 1] == c;
      if ((c == '{' || c == '}') && doubled) {
        out += c;
        at += 2;
      } else if (c == '{') {
        const std::size_t end = field_end(format, at);
        out += field(format.substr(at + 1, end - at - 1), depth);
        at = end + 1;
      } else if (c == '}') {
        rt_.fail("the format has a single '}'");
      } else {
        out += c;
        ++at;
      }
      if (out.size() > rt_.limits().arena_bytes) rt_.fail_limit("takes too much memory");
    }
    return out;
  }

 private:
  std::size_t field_end(std::string_view format, std::size_t at) {
    int open = 0;
    for (; at < format.size(); ++at) {
      if (format[at] == '{') ++open;
      if (format[at] == '}' && --open == 0) return at;
    }
    rt_.fail("the format has a '{' that is not closed");
  }

  std::string field(std::string_view field, int depth) {
    const std::size_t colon = std::min(field.find(':'), field.size());
    std::string_view name = field.substr(0, colon);
    char shown_as = '\0';
    if (const std::size_t mark = name.find('!'); mark != name.npos) {
      if (mark + 2 != name.size()) rt_.fail("the format has a conversion that is not valid");
      shown_as = name[mark + 1];
      name = name.substr(0, mark);
    }
    value v = lookup(name);
    if (shown_as == 'r') {
      std::string shown;
      append_repr(rt_, shown, v);
      v = rt_.make_text(std::move(shown));
    } else if (shown_as == 's') {
      v = text{to_text(rt_, v)};
    } else if (shown_as != '\0') {
      rt_.fail("only !s and !r are supported in formats", errc::unsupported);
    }
    const std::string spec = colon < field.size() ? run(field.substr(colon + 1), depth + 1) : "";
    return format_by_spec(rt_, v, spec);
  }

  value lookup(std::string_view name) {
    const std::size_t first = std::min(name.find_first_of(".["), name.size());
    value v = argument(name.substr(0, first));
    for (std::size_t at = first; at < name.size();) {
      const bool is_attribute = name[at] == '.';
      const std::size_t end = is_attribute ? std::min(name.find_first_of(".[", at + 1), name.size())
                                           : name.find(']', at);
      if (end == name.npos) rt_.fail("the format has a '[' that is not closed");
      const std::string_view part = name.substr(at + 1, end - at - 1);
      std::size_t read = 0;
      const std::int64_t index = read_number(part, read);
      if (is_attribute)
        v = get_attribute(rt_, v, part);
      else if (read == part.size() && read > 0)
        v = get_item(rt_, v, index);
      else
        v = get_item(rt_, v, text{part});
      at = is_attribute ? end : end + 1;
    }
    return v;
  }

  value argument(std::string_view name) {
    std::size_t read = 0;
    const std::int64_t number = read_number(name, read);
    if (read == name.size()) {
      const std::size_t index = name.empty() ? next_++ : static_cast<std::size_t>(number);
      if (index >= args_.positional.size()) rt_.fail("too few arguments for the format");
      return args_.positional[index];
    }
    for (const auto& [known, item] : args_.named)
      if (known == name) return item;
    rt_.fail(fmt::format("the format needs an argument '{}'", name));
  }

  runtime& rt_;
  const arguments& args_;
  std::size_t next_ = 0;
};

}  // namespace

std::string format_percent(runtime& rt, std::string_view format, const value& args) {
  return percent_formatter(rt, format, args).run();
}

std::string format_braces(runtime& rt, std::string_view format, const arguments& args) {
  return brace_formatter(rt, args).run(format);
}

}  // namespace quire::jinja
