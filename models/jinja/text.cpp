#include "models/jinja/text.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace quire::jinja {
namespace {

utf8proc_category_t category(char32_t point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(point));
}

bool is_letter_category(utf8proc_category_t c) {
  return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
         c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_LO;
}

/// Upper case forms of more than one code point (Unicode's SpecialCasing.txt, unconditional rows
/// for Latin, Armenian and the common Greek letters).
struct special_case {
  char32_t point;
  std::u32string_view upper;
  std::u32string_view title;
};
constexpr special_case special_cases[] = {
    {0xDF, U"SS", U"Ss"},
    {0x149, U"\u02BCN", U"\u02BCN"},
    {0x1F0, U"J\u030C", U"J\u030C"},
    {0x587, U"\u0535\u0552", U"\u0535\u0582"},
    {0x390, U"\u0399\u0308\u0301", U"\u0399\u0308\u0301"},
    {0x3B0, U"\u03A5\u0308\u0301", U"\u03A5\u0308\u0301"},
    {0x1E96, U"H\u0331", U"H\u0331"},
    {0x1E97, U"T\u0308", U"T\u0308"},
    {0x1E98, U"W\u030A", U"W\u030A"},
    {0x1E99, U"Y\u030A", U"Y\u030A"},
    {0x1E9A, U"A\u02BE", U"A\u02BE"},
    {0xFB00, U"FF", U"Ff"},
    {0xFB01, U"FI", U"Fi"},
    {0xFB02, U"FL", U"Fl"},
    {0xFB03, U"FFI", U"Ffi"},
    {0xFB04, U"FFL", U"Ffl"},
    {0xFB05, U"ST", U"St"},
    {0xFB06, U"ST", U"St"},
};

const special_case* find_special(char32_t point) {
  if (point < 0xDF) return nullptr;
  const auto found = std::find_if(std::begin(special_cases), std::end(special_cases),
                                  [&](const special_case& s) { return s.point == point; });
  return found == std::end(special_cases) ? nullptr : found;
}

void append_upper(std::string& out, char32_t point) {
  if (const special_case* special = find_special(point))
    for (const char32_t c : special->upper) append_point(out, c);
  else
    append_point(out, static_cast<char32_t>(utf8proc_toupper(static_cast<int>(point))));
}

void append_title(std::string& out, char32_t point) {
  if (const special_case* special = find_special(point))
    for (const char32_t c : special->title) append_point(out, c);
  else
    append_point(out, static_cast<char32_t>(utf8proc_totitle(static_cast<int>(point))));
}

bool is_cased(char32_t point) {
  return is_upper(point) || is_lower(point) || category(point) == UTF8PROC_CATEGORY_LT;
}

/// What may stand between a letter and a sigma without ending the word.
bool is_case_ignorable(char32_t point) {
  const utf8proc_category_t k = category(point);
  return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || point == '\'' ||
         point == 0x2019 || point == '.' || point == ':' || point == 0xB7;
}

std::size_t point_before(std::string_view text, std::size_t at) {
  std::size_t start = at - 1;
  while (start > 0 && at - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80)
    --start;
  return start;
}

/// Whether a sigma at [at, end) of `text` ends a word and so takes its final form.
bool is_final_sigma(std::string_view text, std::size_t at, std::size_t end) {
  bool after_letter = false;
  while (at > 0) {
    at = point_before(text, at);
    std::size_t next = at;
    const char32_t c = next_point(text, next);
    if (is_case_ignorable(c)) continue;
    after_letter = is_cased(c);
    break;
  }
  if (!after_letter) return false;
  while (end < text.size()) {
    const char32_t c = next_point(text, end);
    if (!is_case_ignorable(c)) return !is_cased(c);
  }
  return true;
}

void append_lower(std::string& out, std::string_view text, std::size_t at, std::size_t end,
                  char32_t point) {
  if (point == 0x130)
    out += "i\xCC\x87";  // dotted capital I keeps its dot
  else if (point == 0x3A3)
    append_point(out, is_final_sigma(text, at, end) ? 0x3C2 : 0x3C3);
  else
    append_point(out, static_cast<char32_t>(utf8proc_tolower(static_cast<int>(point))));
}

bool is_line_end(char32_t c) {
  return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

}  // namespace

char32_t next_point(std::string_view text, std::size_t& at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) {
    ++at;
    return first;
  }
  utf8proc_int32_t point = -1;
  const utf8proc_ssize_t used =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                       static_cast<utf8proc_ssize_t>(text.size() - at), &point);
  if (used <= 0 || point < 0) {
    ++at;
    return 0xFFFD;
  }
  at += static_cast<std::size_t>(used);
  return static_cast<char32_t>(point);
}

void append_point(std::string& text, char32_t point) {
  if (point < 0x80) {
    text += static_cast<char>(point);
    return;
  }
  std::array<utf8proc_uint8_t, 4> bytes;
  const utf8proc_ssize_t used =
      utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes.data());
  text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(used));
}

std::size_t num_points(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) next_point(text, at);
  return count;
}

std::size_t point_offset(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  while (index-- > 0 && at < text.size()) next_point(text, at);
  return at;
}

std::vector<std::string_view> split_points(std::string_view text) {
  std::vector<std::string_view> points;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    next_point(text, at);
    points.push_back(text.substr(start, at - start));
  }
  return points;
}

bool is_space(char32_t c) {
  return (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_alpha(char32_t point) {
  return is_letter_category(category(point));
}
bool is_decimal(char32_t point) {
  return category(point) == UTF8PROC_CATEGORY_ND;
}
bool is_upper(char32_t point) {
  return utf8proc_isupper(static_cast<int>(point)) != 0;
}
bool is_lower(char32_t point) {
  return utf8proc_islower(static_cast<int>(point)) != 0;
}

bool is_printable(char32_t point) {
  if (point == ' ') return true;
  switch (category(point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string_view strip(std::string_view text, strip_side side,
                       std::optional<std::string_view> chars) {
  const auto drops = [&](std::string_view point) {
    if (!chars) {
      std::size_t at = 0;
      return is_space(next_point(point, at));
    }
    return chars->find(point) != std::string_view::npos;
  };
  std::size_t begin = 0;
  if (side != strip_side::right) {
    for (std::size_t at = 0; at < text.size(); begin = at) {
      next_point(text, at);
      if (!drops(text.substr(begin, at - begin))) break;
    }
  }
  text.remove_prefix(begin);
  if (side == strip_side::left) return text;
  while (!text.empty()) {
    const std::size_t start = point_before(text, text.size());
    if (!drops(text.substr(start))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

std::string upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) append_upper(out, next_point(text, at));
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t point = next_point(text, at);
    append_lower(out, text, start, at, point);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t point = next_point(text, at);
    if (start == 0)
      append_title(out, point);
    else
      append_lower(out, text, start, at, point);
  }
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t point = next_point(text, at);
    if (in_word)
      append_lower(out, text, start, at, point);
    else
      append_title(out, point);
    in_word = is_cased(point);
  }
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const char32_t point = next_point(text, at);
    if (is_upper(point))
      append_lower(out, text, start, at, point);
    else if (is_lower(point))
      append_upper(out, point);
    else
      append_point(out, point);
  }
  return out;
}

std::vector<std::string_view> split_space(std::string_view text, std::size_t limit,
                                          bool from_right) {
  struct word {
    std::size_t begin;
    std::size_t end;
  };
  std::vector<word> words;
  bool in_word = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t start = at;
    const bool space = is_space(next_point(text, at));
    if (!space && !in_word) words.push_back({start, at});
    if (!space) words.back().end = at;
    in_word = !space;
  }
  std::vector<std::string_view> parts;
  const bool has_rest = words.size() > limit;
  const std::size_t taken = has_rest ? limit : words.size();
  const std::size_t rest = words.size() - taken;
  const auto cut = [&](std::size_t begin, std::size_t end) {
    parts.push_back(text.substr(begin, end - begin));
  };
  if (from_right && has_rest) cut(0, words[rest - 1].end);
  for (std::size_t i = 0; i < taken; ++i) {
    const word& w = words[from_right ? rest + i : i];
    cut(w.begin, w.end);
  }
  if (!from_right && has_rest) cut(words[taken].begin, text.size());
  return parts;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       std::size_t limit, bool from_right) {
  std::vector<std::string_view> parts;
  while (parts.size() < limit) {
    const std::size_t found = from_right ? text.rfind(separator) : text.find(separator);
    if (found == std::string_view::npos) break;
    const std::string_view before = text.substr(0, found);
    const std::string_view after = text.substr(found + separator.size());
    parts.push_back(from_right ? after : before);
    text = from_right ? before : after;
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t point = next_point(text, at);
    if (!is_line_end(point)) continue;
    if (point == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::size_t limit) {
  std::string out;
  if (from.empty()) {
    std::size_t at = 0;
    for (; limit > 0; --limit) {
      out += to;
      if (at == text.size()) break;
      const std::size_t start = at;
      next_point(text, at);
      out += text.substr(start, at - start);
    }
    return out += text.substr(at);
  }
  while (limit-- > 0) {
    const std::size_t found = text.find(from);
    if (found == std::string_view::npos) break;
    out += text.substr(0, found);
    out += to;
    text.remove_prefix(found + from.size());
  }
  return out += text;
}

std::string repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_point(text, at);
    if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\\' || c == static_cast<unsigned char>(quote))
      (out += '\\') += static_cast<char>(c);
    else if (is_printable(c))
      append_point(out, c);
    else {
      const int width = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
      out += width == 2 ? "\\x" : width == 4 ? "\\u" : "\\U";
      for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) out += digits[(c >> shift) & 0xF];
    }
  }
  return out += quote;
}

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  std::array<char, 32> buffer;
  const auto scientific = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number,
                                        std::chars_format::scientific);
  const std::string_view shortest(buffer.data(),
                                  static_cast<std::size_t>(scientific.ptr - buffer.data()));
  const std::size_t e = shortest.find('e');
  int exponent = 0;
  const char* digits = shortest.data() + e + 1;
  if (*digits == '+') ++digits;
  std::from_chars(digits, shortest.data() + shortest.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  std::array<char, 64> wide;
  const auto fixed =
      std::to_chars(wide.data(), wide.data() + wide.size(), number, std::chars_format::fixed);
  std::string out(wide.data(), fixed.ptr);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace quire::jinja
