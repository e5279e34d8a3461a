// Filters that work on one text or number.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

bool is_safe(const value& v) {
  const auto* t = std::get_if<text>(&v);
  return t && t->safe;
}

/// A filter without arguments that maps a text to a text.
template <std::string (*Map)(std::string_view)>
value mapped(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "the filter", args, {});
  return rt.make_text(Map(to_text(rt, v)), is_safe(v));
}

value filter_trim(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "trim", args, {"chars"});
  std::optional<std::string_view> chars;
  if (bound.get_some(0)) chars = bound.get_text(0, "");
  return text{strip(to_text(rt, v), strip_side::both, chars), is_safe(v)};
}

/// Words as the filter `title` sees them: after white space, a hyphen or an opening bracket.
std::string title_words(std::string_view bytes) {
  std::string out;
  std::size_t word = 0;
  const auto flush = [&](std::size_t end) {
    if (end == word) return;
    std::size_t second = word;
    next_point(bytes, second);
    out += upper(bytes.substr(word, second - word));
    out += lower(bytes.substr(second, end - second));
  };
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t start = at;
    const char32_t c = next_point(bytes, at);
    if (!is_space(c) && c != '-' && c != '(' && c != '{' && c != '[' && c != '<') continue;
    flush(start);
    out += bytes.substr(start, at - start);
    word = at;
  }
  flush(bytes.size());
  return out;
}

value filter_string(runtime& rt, const value& v, const arguments&) {
  return text{to_text(rt, v), is_safe(v)};
}

value filter_safe(runtime& rt, const value& v, const arguments&) {
  return text{to_text(rt, v), true};
}

value filter_escape(runtime& rt, const value& v, const arguments&) {
  if (is_safe(v)) return v;
  return rt.make_text(escape_html(to_text(rt, v)), true);
}

value filter_forceescape(runtime& rt, const value& v, const arguments&) {
  return rt.make_text(escape_html(to_text(rt, v)), true);
}

value filter_default(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "default", args, {"default_value", "boolean"});
  if (!is_undefined(v) && !(bound.get_bool(1, false) && !truth(rt, v))) return v;
  return bound.get(0) ? *bound.get(0) : value(text{});
}

value filter_replace(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "replace", args, {"old", "new", "count"}, 2);
  std::size_t limit = std::string::npos;
  if (bound.get_some(2) && bound.get_int(2, -1) >= 0)
    limit = static_cast<std::size_t>(bound.get_int(2, -1));
  const std::string_view from = bound.get_text(0, "");
  const std::string_view to = bound.get_text(1, "");
  const std::string_view whole = to_text(rt, v);
  // Each occurrence grows the text; refuse before it is made.
  const std::size_t most = from.empty() ? whole.size() + 1 : whole.size() / from.size();
  if (to.size() > 0 && std::min(most, limit) > rt.limits().arena_bytes / to.size())
    rt.fail_limit("takes too much memory");
  return rt.make_text(replace(whole, from, to, limit), is_safe(v));
}

value filter_indent(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "indent", args, {"width", "first", "blank"});
  std::string indent(4, ' ');
  if (const value* width = bound.get(0)) {
    if (const auto* t = std::get_if<text>(width))
      indent = t->bytes;
    else
      indent.assign(
          static_cast<std::size_t>(std::clamp<std::int64_t>(bound.get_int(0, 4), 0, 10000)), ' ');
  }
  const bool blank = bound.get_bool(2, false);
  if (!std::holds_alternative<text>(v))
    rt.fail(fmt::format("'indent' takes a text, not '{}'", type_name(v)));
  const std::string whole = fmt::format("{}\n", to_text(rt, v));
  std::string out = bound.get_bool(1, false) ? indent : "";
  bool first = true;
  for (const std::string_view line : split_lines(whole, false)) {
    if (!first) {
      out += '\n';
      if (blank || !line.empty()) out += indent;
    }
    out += line;
    first = false;
    if (out.size() > rt.limits().arena_bytes) rt.fail_limit("takes too much memory");
  }
  return rt.make_text(std::move(out), is_safe(v));
}

std::string without_underscores(std::string_view digits) {
  std::string out;
  for (const char c : digits)
    if (c != '_') out += c;
  return out;
}

/// float() of a text: what Python takes, without its rarer spellings.
std::optional<double> parse_real(std::string_view bytes) {
  std::string digits = without_underscores(strip(bytes, strip_side::both));
  std::string_view body = digits;
  if (body.starts_with('+')) body.remove_prefix(1);
  if (body.empty() || body.starts_with("+")) return {};
  const std::string folded = lower(body.starts_with('-') ? body.substr(1) : body);
  if (folded == "infinity")
    body = body.starts_with('-') ? "-inf" : "inf";
  else if (folded.starts_with("nan") && folded != "nan")
    return {};
  double number = 0;
  const auto [stop, status] = std::from_chars(body.data(), body.data() + body.size(), number);
  if (stop != body.data() + body.size() || status == std::errc::invalid_argument) return {};
  if (status == std::errc::result_out_of_range)  // too large, or too small: decided by the exponent
    number = body.find("e-") != body.npos || body.find("E-") != body.npos ? 0.0
             : body.starts_with('-') ? -std::numeric_limits<double>::infinity()
                                     : std::numeric_limits<double>::infinity();
  return number;
}

/// int() of a text in a base, with a prefix such as 0x where the base is that of the prefix.
std::optional<std::int64_t> parse_integer(std::string_view bytes, std::int64_t base) {
  std::string digits = lower(strip(bytes, strip_side::both));
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  const std::string_view prefix = std::string_view(digits).substr(0, 2);
  const int prefix_base = prefix == "0x" ? 16 : prefix == "0o" ? 8 : prefix == "0b" ? 2 : 0;
  if (prefix_base != 0 && (base == prefix_base || base == 0)) {
    digits.erase(0, 2);
    base = prefix_base;
  } else if (base == 0) {
    base = 10;
  }
  if (base < 2 || base > 36 || digits.starts_with('_') || digits.ends_with('_')) return {};
  digits = fmt::format("{}{}", negative ? "-" : "", without_underscores(digits));
  std::int64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, status] = std::from_chars(digits.data(), end, number, static_cast<int>(base));
  if (stop != end || status != std::errc()) return {};
  return number;
}

value truncated(runtime& rt, double number, const value& fallback) {
  if (!std::isfinite(number)) return fallback;
  if (std::abs(number) >= 9.2e18)
    rt.fail("integers beyond 64 bits are not supported", errc::unsupported);
  return static_cast<std::int64_t>(number);
}

value filter_int(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "int", args, {"default", "base"});
  const value fallback = bound.get(0) ? *bound.get(0) : value(std::int64_t{0});
  std::int64_t number = 0;
  if (is_integral(v, number)) return number;
  if (const auto* d = std::get_if<double>(&v)) {
    if (!std::isfinite(*d)) return fallback;
    return truncated(rt, *d, fallback);
  }
  if (const auto* t = std::get_if<text>(&v)) {
    if (const auto parsed = parse_integer(t->bytes, bound.get_int(1, 10))) return *parsed;
    if (const auto parsed = parse_real(t->bytes)) return truncated(rt, *parsed, fallback);
    return fallback;
  }
  if (const auto* u = std::get_if<undefined>(&v))
    rt.fail(fmt::format("'{}' is undefined", u->name));
  return fallback;
}

value filter_float(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "float", args, {"default"});
  if (is_number(v)) return to_double(v);
  if (const auto* t = std::get_if<text>(&v))
    if (const auto parsed = parse_real(t->bytes)) return *parsed;
  if (const auto* u = std::get_if<undefined>(&v))
    rt.fail(fmt::format("'{}' is undefined", u->name));
  return bound.get(0) ? *bound.get(0) : value(0.0);
}

value filter_abs(runtime& rt, const value& v, const arguments&) {
  if (const auto* d = std::get_if<double>(&v)) return std::abs(*d);
  const std::int64_t number = to_int(rt, v, "the input of 'abs'");
  if (number >= 0) return number;
  return binary_operation(rt, binary_operator::subtract, std::int64_t{0}, number);
}

/// round(): half to even on the exact decimal value, which is what printing digits does.
double round_half_even(double number, std::int64_t precision) {
  if (!std::isfinite(number) || precision > 300) return number;
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(number / unit) * unit;
  }
  const std::string digits = fmt::format("{:.{}f}", number, precision);
  double rounded = number;
  std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
  return rounded;
}

value filter_round(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "round", args, {"precision", "method"});
  const std::string_view method = bound.get_text(1, "common");
  const std::int64_t precision = std::clamp<std::int64_t>(bound.get_int(0, 0), -300, 400);
  if (!is_number(v)) rt.fail(fmt::format("'round' takes a number, not '{}'", type_name(v)));
  if (method == "common") {
    std::int64_t number = 0;
    if (!is_integral(v, number)) return round_half_even(to_double(v), precision);
    if (precision >= 0) return number;
    return static_cast<std::int64_t>(round_half_even(static_cast<double>(number), precision));
  }
  if (method != "ceil" && method != "floor")
    rt.fail("the method of 'round' must be common, ceil or floor");
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = to_double(v) * unit;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit;
}

value filter_format(runtime& rt, const value& v, const arguments& args) {
  if (!args.positional.empty() && !args.named.empty())
    rt.fail("'format' takes positional or named arguments, not both");
  value given;
  if (args.named.empty()) {
    given = rt.make_sequence(sequence_kind::tuple, args.positional);
  } else {
    mapping* const map = rt.make_mapping();
    for (const auto& [name, item] : args.named) map->set(text{name}, item);
    given = map;
  }
  return rt.make_text(format_percent(rt, to_text(rt, v), given), is_safe(v));
}

value filter_center(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "center", args, {"width"});
  arguments width;
  width.positional.push_back(bound.get(0) ? *bound.get(0) : value(std::int64_t{80}));
  const value whole = text{to_text(rt, v)};
  return find_method(whole, "center").function(rt, whole, width);
}

value filter_truncate(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "truncate", args, {"length", "killwords", "end", "leeway"});
  if (!std::holds_alternative<text>(v))
    rt.fail(fmt::format("'truncate' takes a text, not '{}'", type_name(v)));
  const std::string_view whole = to_text(rt, v);
  const std::string_view end = bound.get_text(2, "...");
  const std::int64_t length = bound.get_int(0, 255);
  const std::int64_t leeway = bound.get_some(3) ? bound.get_int(3, 5) : 5;
  const auto end_length = static_cast<std::int64_t>(num_points(end));
  if (length < end_length || leeway < 0)
    rt.fail("'truncate' is given a length below that of its end");
  if (static_cast<std::int64_t>(num_points(whole)) <= length + leeway) return v;
  std::string_view kept =
      whole.substr(0, point_offset(whole, static_cast<std::size_t>(length - end_length)));
  if (!bound.get_bool(1, false)) kept = kept.substr(0, kept.rfind(' '));
  return rt.make_text(fmt::format("{}{}", kept, end), is_safe(v));
}

value filter_wordcount(runtime& rt, const value& v, const arguments&) {
  std::int64_t words = 0;
  bool in_word = false;
  const std::string_view bytes = to_text(rt, v);
  rt.step_bytes(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const char32_t c = next_point(bytes, at);
    const bool part = c == '_' || is_alpha(c) || is_decimal(c);
    if (part && !in_word) ++words;
    in_word = part;
  }
  return words;
}

json_style read_json_style(runtime& rt, const arguments& args) {
  const bound_arguments bound(rt, "tojson", args,
                              {"ensure_ascii", "indent", "separators", "sort_keys"});
  json_style style;
  style.ensure_ascii = bound.get_bool(0, false);
  style.sort_keys = bound.get_bool(3, false);
  if (const value* indent = bound.get_some(1)) {
    style.indented = true;
    style.item_separator.assign(1, ',');
    if (const auto* t = std::get_if<text>(indent))
      style.indent = t->bytes;
    else
      style.indent.assign(
          static_cast<std::size_t>(std::clamp<std::int64_t>(bound.get_int(1, 0), 0, 1000)), ' ');
  }
  if (const value* separators = bound.get_some(2)) {
    const std::vector<value> pair = iterate(rt, *separators);
    if (pair.size() != 2) rt.fail("the separators of 'tojson' are a pair");
    style.item_separator = to_text(rt, pair[0]);
    style.key_separator = to_text(rt, pair[1]);
  }
  return style;
}

value filter_tojson(runtime& rt, const value& v, const arguments& args) {
  std::string json;
  append_json(rt, json, v, read_json_style(rt, args));
  return rt.make_text(std::move(json));
}

constexpr named_function<filter_function> table[] = {
    {"trim", filter_trim},
    {"upper", mapped<upper>},
    {"lower", mapped<lower>},
    {"capitalize", mapped<capitalize>},
    {"title", mapped<title_words>},
    {"string", filter_string},
    {"safe", filter_safe},
    {"escape", filter_escape},
    {"e", filter_escape},
    {"forceescape", filter_forceescape},
    {"default", filter_default},
    {"d", filter_default},
    {"replace", filter_replace},
    {"indent", filter_indent},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"format", filter_format},
    {"center", filter_center},
    {"truncate", filter_truncate},
    {"wordcount", filter_wordcount},
    {"tojson", filter_tojson},
};

}  // namespace

std::span<const named_function<filter_function>> text_filters() {
  return table;
}

}  // namespace quire::jinja
