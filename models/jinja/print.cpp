// Printing values: str(), repr() and json.dumps() as Python has them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/jinja/text.hpp"
#include "models/jinja/value.hpp"

namespace quire::jinja {
namespace {

void check_depth(const runtime& rt, std::uint32_t depth) {
  if (depth > rt.limits().depth / 4) rt.fail_limit("prints data that is nested too deeply");
}

/// Texts grow in the arena's account only when they are done; this stops them on the way.
void check_size(const runtime& rt, const std::string& out) {
  if (out.size() > rt.limits().arena_bytes) rt.fail_limit("takes too much memory");
}

void append_items(runtime& rt, std::string& out, const std::vector<value>& items,
                  std::uint32_t depth) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(rt, out, items[i], depth + 1);
  }
}

void append_pairs(runtime& rt, std::string& out, const mapping& map, std::uint32_t depth) {
  out += '{';
  for (std::size_t i = 0; i < map.items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(rt, out, map.items[i].first, depth + 1);
    out += ": ";
    append_repr(rt, out, map.items[i].second, depth + 1);
  }
  out += '}';
}

void append_sequence(runtime& rt, std::string& out, const sequence& s, std::uint32_t depth) {
  switch (s.kind) {
    case sequence_kind::list:
      out += '[';
      append_items(rt, out, s.items, depth);
      out += ']';
      return;
    case sequence_kind::tuple:
      out += '(';
      append_items(rt, out, s.items, depth);
      out += s.items.size() == 1 ? ",)" : ")";
      return;
    case sequence_kind::range:
      out += s.shown;
      return;
    case sequence_kind::generator:
      out += "<generator object>";
      return;
    case sequence_kind::dict_keys:
      out += "dict_keys([";
      break;
    case sequence_kind::dict_values:
      out += "dict_values([";
      break;
    case sequence_kind::dict_items:
      out += "dict_items([";
      break;
  }
  append_items(rt, out, s.items, depth);
  out += "])";
}

void append_json_text(std::string& out, std::string_view bytes, bool ensure_ascii) {
  out += '"';
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t start = at;
    const char32_t c = next_point(bytes, at);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (c >= 0x20 && (c < 0x7F || !ensure_ascii))
          out += bytes.substr(start, at - start);
        else if (c < 0x10000)
          out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
        else {
          const std::uint32_t rest = static_cast<std::uint32_t>(c) - 0x10000;
          out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
        }
    }
  }
  out += '"';
}

std::string json_number(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return repr(number);
}

std::string json_key(runtime& rt, const value& key) {
  if (const auto* t = std::get_if<text>(&key)) return std::string(t->bytes);
  if (const auto* b = std::get_if<bool>(&key)) return *b ? "true" : "false";
  if (const auto* i = std::get_if<std::int64_t>(&key)) return std::to_string(*i);
  if (const auto* d = std::get_if<double>(&key)) return json_number(*d);
  if (std::holds_alternative<none>(key)) return "null";
  rt.fail(fmt::format("a key of type '{}' cannot be written as JSON", type_name(key)));
}

void append_line(std::string& out, const json_style& style, std::uint32_t depth) {
  if (!style.indented) return;
  out += '\n';
  for (std::uint32_t i = 0; i < depth; ++i) out += style.indent;
}

void append_json_list(runtime& rt, std::string& out, const std::vector<value>& items,
                      const json_style& style, std::uint32_t depth) {
  if (items.empty()) {
    out += "[]";
    return;
  }
  out += '[';
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += style.item_separator;
    append_line(out, style, depth + 1);
    append_json(rt, out, items[i], style, depth + 1);
  }
  append_line(out, style, depth);
  out += ']';
}

void append_json_object(runtime& rt, std::string& out, const mapping& map, const json_style& style,
                        std::uint32_t depth) {
  if (map.items.empty()) {
    out += "{}";
    return;
  }
  std::vector<const std::pair<value, value>*> items;
  for (const auto& item : map.items) items.push_back(&item);
  if (style.sort_keys)
    std::stable_sort(items.begin(), items.end(),
                     [&](const auto* a, const auto* b) { return less(rt, a->first, b->first); });
  out += '{';
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += style.item_separator;
    append_line(out, style, depth + 1);
    append_json_text(out, json_key(rt, items[i]->first), style.ensure_ascii);
    out += style.key_separator;
    append_json(rt, out, items[i]->second, style, depth + 1);
  }
  append_line(out, style, depth);
  out += '}';
}

}  // namespace

void append_repr(runtime& rt, std::string& out, const value& v, std::uint32_t depth) {
  rt.step();
  check_depth(rt, depth);
  check_size(rt, out);
  if (const auto* t = std::get_if<text>(&v)) {
    rt.step_bytes(t->bytes.size());
    out += t->safe ? "Markup(" + repr(t->bytes) + ")" : repr(t->bytes);
  } else if (const auto* s = std::get_if<const sequence*>(&v)) {
    append_sequence(rt, out, **s, depth);
  } else if (const auto* m = std::get_if<const mapping*>(&v)) {
    append_pairs(rt, out, **m, depth);
  } else if (const auto* n = std::get_if<space*>(&v)) {
    out += "<Namespace ";
    append_pairs(rt, out, (*n)->attributes, depth);
    out += '>';
  } else if (is_undefined(v)) {
    out += "Undefined";
  } else {
    append_text(rt, out, v);
  }
}

void append_text(runtime& rt, std::string& out, const value& v) {
  if (const auto* t = std::get_if<text>(&v))
    out += t->bytes;
  else if (is_undefined(v))
    return;
  else if (std::holds_alternative<none>(v))
    out += "None";
  else if (const auto* b = std::get_if<bool>(&v))
    out += *b ? "True" : "False";
  else if (const auto* i = std::get_if<std::int64_t>(&v))
    out += std::to_string(*i);
  else if (const auto* d = std::get_if<double>(&v))
    out += repr(*d);
  else if (const auto* l = std::get_if<loop_state*>(&v))
    out += fmt::format("<LoopContext {}/{}>", (*l)->index + 1, (*l)->items->items.size());
  else if (const auto* c = std::get_if<const callable*>(&v))
    out += fmt::format("<function {}>", (*c)->name);
  else
    append_repr(rt, out, v);
}

std::string_view to_text(runtime& rt, const value& v) {
  if (const auto* t = std::get_if<text>(&v)) return t->bytes;
  if (is_undefined(v)) return {};
  std::string out;
  append_text(rt, out, v);
  return rt.make_text(std::move(out)).bytes;
}

void append_json(runtime& rt, std::string& out, const value& v, const json_style& style,
                 std::uint32_t depth) {
  rt.step();
  check_depth(rt, depth);
  check_size(rt, out);
  if (const auto* t = std::get_if<text>(&v)) {
    rt.step_bytes(t->bytes.size());
    append_json_text(out, t->bytes, style.ensure_ascii);
  } else if (std::holds_alternative<none>(v)) {
    out += "null";
  } else if (const auto* b = std::get_if<bool>(&v)) {
    out += *b ? "true" : "false";
  } else if (const auto* i = std::get_if<std::int64_t>(&v)) {
    out += std::to_string(*i);
  } else if (const auto* d = std::get_if<double>(&v)) {
    out += json_number(*d);
  } else if (const auto* m = std::get_if<const mapping*>(&v)) {
    append_json_object(rt, out, **m, style, depth);
  } else if (const auto* s = std::get_if<const sequence*>(&v);
             s && (*s)->kind <= sequence_kind::tuple) {
    append_json_list(rt, out, (*s)->items, style, depth);
  } else {
    rt.fail(fmt::format("a value of type '{}' cannot be written as JSON", type_name(v)));
  }
}

}  // namespace quire::jinja
