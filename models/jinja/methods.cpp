// The methods of Python's str, list, tuple, dict and float that templates call.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

constexpr std::size_t unlimited = std::string::npos;

const text& self_text(const value& v) {
  return std::get<text>(v);
}

value list_of_texts(runtime& rt, const std::vector<std::string_view>& parts) {
  std::vector<value> items;
  for (const std::string_view part : parts) items.push_back(text{part});
  return rt.make_list(std::move(items));
}

/// The argument, which Python takes only as a text.
std::string_view text_argument(runtime& rt, const bound_arguments& args, std::size_t index,
                               std::string_view method) {
  const auto* t = args.get(index) ? std::get_if<text>(args.get(index)) : nullptr;
  if (!t) rt.fail(fmt::format("'{}' takes a text", method));
  return t->bytes;
}

/// A count of which negative means all.
std::size_t count_argument(const bound_arguments& args, std::size_t index) {
  const std::int64_t count = args.get_int(index, -1);
  return count < 0 ? unlimited : static_cast<std::size_t>(count);
}

template <std::string (*Map)(std::string_view)>
value text_mapped(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "the method", args, {});
  return rt.make_text(Map(self_text(self).bytes), self_text(self).safe);
}

template <strip_side Side>
value text_strip(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "strip", args, {""});
  std::optional<std::string_view> chars;
  if (bound.get_some(0)) chars = text_argument(rt, bound, 0, "strip");
  rt.step_bytes(self_text(self).bytes.size());
  return text{strip(self_text(self).bytes, Side, chars), self_text(self).safe};
}

template <bool FromRight>
value text_split(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "split", args, {"sep", "maxsplit"});
  const std::string_view whole = self_text(self).bytes;
  const std::size_t limit = count_argument(bound, 1);
  rt.step_bytes(whole.size());
  if (!bound.get_some(0)) return list_of_texts(rt, split_space(whole, limit, FromRight));
  const std::string_view separator = text_argument(rt, bound, 0, "split");
  if (separator.empty()) rt.fail("'split' takes no empty separator");
  return list_of_texts(rt, split_at(whole, separator, limit, FromRight));
}

value text_splitlines(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "splitlines", args, {"keepends"});
  return list_of_texts(rt, split_lines(self_text(self).bytes, bound.get_bool(0, false)));
}

/// A part of the text by the start and end arguments, and the code points before it; nothing when
/// the start lies behind the end.
std::optional<std::pair<std::string_view, std::int64_t>> part_of(runtime& rt, const text& whole,
                                                                 const bound_arguments& bound,
                                                                 std::size_t first_argument) {
  rt.step_bytes(whole.bytes.size());
  const bool has_start = bound.get_some(first_argument) != nullptr;
  const bool has_end = bound.get_some(first_argument + 1) != nullptr;
  if (!has_start && !has_end) return std::pair(whole.bytes, std::int64_t{0});
  const auto count = static_cast<std::int64_t>(num_points(whole.bytes));
  const auto clamp = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? at + count : at, 0, count);
  };
  const std::int64_t raw_start = has_start ? bound.get_int(first_argument, 0) : 0;
  const std::int64_t start = clamp(raw_start);
  const std::int64_t end = has_end ? clamp(bound.get_int(first_argument + 1, 0)) : count;
  if (raw_start > count || start > end) return {};
  const std::size_t from = point_offset(whole.bytes, static_cast<std::size_t>(start));
  const std::size_t to = point_offset(whole.bytes, static_cast<std::size_t>(end));
  return std::pair(whole.bytes.substr(from, to - from), start);
}

template <bool AtEnd>
value text_starts(runtime& rt, const value& self, const arguments& args) {
  constexpr std::string_view name = AtEnd ? "endswith" : "startswith";
  const bound_arguments bound(rt, name, args, {"", "", ""}, 1);
  const auto part = part_of(rt, self_text(self), bound, 1);
  std::vector<value> candidates{*bound.get(0)};
  if (const auto* s = std::get_if<const sequence*>(&candidates[0]))
    if ((*s)->kind == sequence_kind::tuple) candidates = std::vector<value>((*s)->items);
  for (const value& candidate : candidates) {
    const auto* t = std::get_if<text>(&candidate);
    if (!t) rt.fail(fmt::format("'{}' takes a text or a tuple of texts", name));
    if (part && (AtEnd ? part->first.ends_with(t->bytes) : part->first.starts_with(t->bytes)))
      return true;
  }
  return false;
}

template <bool FromRight, bool MustExist>
value text_find(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "find", args, {"", "", ""}, 1);
  const auto part = part_of(rt, self_text(self), bound, 1);
  const std::string_view wanted = text_argument(rt, bound, 0, "find");
  const std::size_t found = !part       ? unlimited
                            : FromRight ? part->first.rfind(wanted)
                                        : part->first.find(wanted);
  if (found != unlimited)
    return part->second + static_cast<std::int64_t>(num_points(part->first.substr(0, found)));
  if (MustExist) rt.fail("the text does not contain what 'index' looks for");
  return std::int64_t{-1};
}

value text_count(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "count", args, {"", "", ""}, 1);
  const auto part = part_of(rt, self_text(self), bound, 1);
  const std::string_view wanted = text_argument(rt, bound, 0, "count");
  if (!part) return std::int64_t{0};
  if (wanted.empty()) return static_cast<std::int64_t>(num_points(part->first)) + 1;
  std::int64_t count = 0;
  for (std::size_t at = part->first.find(wanted); at != unlimited;
       at = part->first.find(wanted, at + wanted.size()))
    ++count;
  return count;
}

value text_replace(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "replace", args, {"", "", "count"}, 2);
  text_argument(rt, bound, 0, "replace");
  text_argument(rt, bound, 1, "replace");
  return find_filter("replace")(rt, self, args);
}

value text_join(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "join", args, {""}, 1);
  std::string joined;
  bool first = true;
  for (const value& item : iterate(rt, *bound.get(0))) {
    const auto* t = std::get_if<text>(&item);
    if (!t) rt.fail(fmt::format("'join' takes texts, not '{}'", type_name(item)));
    if (!std::exchange(first, false)) joined += self_text(self).bytes;
    joined += t->bytes;
    if (joined.size() > rt.limits().arena_bytes) rt.fail_limit("takes too much memory");
  }
  return rt.make_text(std::move(joined), self_text(self).safe);
}

value text_format(runtime& rt, const value& self, const arguments& args) {
  return rt.make_text(format_braces(rt, self_text(self).bytes, args), self_text(self).safe);
}

template <bool FromRight>
value text_partition(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "partition", args, {""}, 1);
  const std::string_view whole = self_text(self).bytes;
  const std::string_view separator = text_argument(rt, bound, 0, "partition");
  if (separator.empty()) rt.fail("'partition' takes no empty separator");
  const std::size_t at = FromRight ? whole.rfind(separator) : whole.find(separator);
  std::vector<value> parts;
  if (at == unlimited)
    parts = FromRight ? std::vector<value>{text{}, text{}, self}
                      : std::vector<value>{self, text{}, text{}};
  else
    parts = {text{whole.substr(0, at)}, text{separator}, text{whole.substr(at + separator.size())}};
  return rt.make_sequence(sequence_kind::tuple, std::move(parts));
}

template <bool Suffix>
value text_remove(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "removeprefix", args, {""}, 1);
  std::string_view whole = self_text(self).bytes;
  const std::string_view part = text_argument(rt, bound, 0, "removeprefix");
  if (!Suffix && whole.starts_with(part)) whole.remove_prefix(part.size());
  if (Suffix && whole.ends_with(part)) whole.remove_suffix(part.size());
  return text{whole};
}

enum class padding { left, right, both };
template <padding Kind>
value text_pad(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "center", args, {"", ""}, 1);
  const std::int64_t width = bound.get_int(0, 0);
  const std::string_view fill = bound.get(1) ? text_argument(rt, bound, 1, "center") : " ";
  if (num_points(fill) != 1) rt.fail("texts are padded with one character");
  const auto missing = width - static_cast<std::int64_t>(num_points(self_text(self).bytes));
  if (missing <= 0) return self;
  if (static_cast<std::size_t>(missing) > rt.limits().output_bytes)
    rt.fail_limit("takes too much memory");
  const std::int64_t left = Kind == padding::left    ? missing
                            : Kind == padding::right ? 0
                                                     : missing / 2 + (missing & width & 1);
  std::string padded;
  for (std::int64_t i = 0; i < left; ++i) padded += fill;
  padded += self_text(self).bytes;
  for (std::int64_t i = left; i < missing; ++i) padded += fill;
  return rt.make_text(std::move(padded));
}

value text_zfill(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "zfill", args, {""}, 1);
  const std::string_view whole = self_text(self).bytes;
  const bool sign = whole.starts_with('-') || whole.starts_with('+');
  const value body = text{whole.substr(sign ? 1 : 0)};
  const arguments width{{bound.get_int(0, 0) - (sign ? 1 : 0), text{"0"}}, {}};
  const value padded = text_pad<padding::left>(rt, body, width);
  return rt.make_text(std::string(whole.substr(0, sign ? 1 : 0)) +
                      std::string(self_text(padded).bytes));
}

/// Whether the text has a code point and all of them fit.
template <bool (*Fits)(char32_t)>
value text_all(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "the method", args, {});
  const std::string_view bytes = self_text(self).bytes;
  rt.step_bytes(bytes.size());
  for (std::size_t at = 0; at < bytes.size();)
    if (!Fits(next_point(bytes, at))) return false;
  return !bytes.empty();
}

bool is_alphanumeric(char32_t c) {
  return is_alpha(c) || is_decimal(c);
}
bool is_ascii(char32_t c) {
  return c < 0x80;
}

template <bool Upper>
value text_cased(runtime& rt, const value& self, const arguments&) {
  return find_test(Upper ? "upper" : "lower")(rt, self, {});
}

value list_index(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "index", args, {""}, 1);
  const std::vector<value>& items = std::get<const sequence*>(self)->items;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (equal(rt, items[i], *bound.get(0))) return static_cast<std::int64_t>(i);
  rt.fail("the list does not contain what 'index' looks for");
}

value list_count(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "count", args, {""}, 1);
  const std::vector<value>& items = std::get<const sequence*>(self)->items;
  return static_cast<std::int64_t>(std::count_if(
      items.begin(), items.end(), [&](const value& v) { return equal(rt, v, *bound.get(0)); }));
}

value itself(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "copy", args, {});
  return self;  // nothing can change it, so a copy would not be told apart
}

template <sequence_kind Kind>
value dict_view(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "items", args, {});
  std::vector<value> items;
  for (const auto& [key, item] : std::get<const mapping*>(self)->items) {
    if (Kind == sequence_kind::dict_keys)
      items.push_back(key);
    else if (Kind == sequence_kind::dict_values)
      items.push_back(item);
    else
      items.push_back(rt.make_sequence(sequence_kind::tuple, {key, item}));
  }
  return rt.make_sequence(Kind, std::move(items));
}

value dict_get(runtime& rt, const value& self, const arguments& args) {
  const bound_arguments bound(rt, "get", args, {"", ""}, 1);
  check_key(rt, *bound.get(0));
  const mapping& map = *std::get<const mapping*>(self);
  rt.step(map.items.size() / 8);
  if (const value* found = map.find(*bound.get(0))) return *found;
  return bound.get(1) ? *bound.get(1) : value(none{});
}

value float_is_integer(runtime&, const value& self, const arguments&) {
  const double number = std::get<double>(self);
  return std::floor(number) == number && std::isfinite(number);
}

using entry = named_function<filter_function>;

constexpr entry text_methods[] = {
    {"strip", text_strip<strip_side::both>},
    {"lstrip", text_strip<strip_side::left>},
    {"rstrip", text_strip<strip_side::right>},
    {"split", text_split<false>},
    {"rsplit", text_split<true>},
    {"splitlines", text_splitlines},
    {"startswith", text_starts<false>},
    {"endswith", text_starts<true>},
    {"replace", text_replace},
    {"upper", text_mapped<upper>},
    {"lower", text_mapped<lower>},
    {"title", text_mapped<title>},
    {"capitalize", text_mapped<capitalize>},
    {"swapcase", text_mapped<swap_case>},
    {"join", text_join},
    {"find", text_find<false, false>},
    {"rfind", text_find<true, false>},
    {"index", text_find<false, true>},
    {"rindex", text_find<true, true>},
    {"count", text_count},
    {"format", text_format},
    {"partition", text_partition<false>},
    {"rpartition", text_partition<true>},
    {"removeprefix", text_remove<false>},
    {"removesuffix", text_remove<true>},
    {"center", text_pad<padding::both>},
    {"ljust", text_pad<padding::right>},
    {"rjust", text_pad<padding::left>},
    {"zfill", text_zfill},
    {"isdigit", text_all<is_decimal>},
    {"isdecimal", text_all<is_decimal>},
    {"isnumeric", text_all<is_decimal>},
    {"isalpha", text_all<is_alpha>},
    {"isalnum", text_all<is_alphanumeric>},
    {"isspace", text_all<is_space>},
    {"isascii", text_all<is_ascii>},
    {"isupper", text_cased<true>},
    {"islower", text_cased<false>},
};
constexpr entry list_methods[] = {{"index", list_index}, {"count", list_count}, {"copy", itself}};
constexpr entry tuple_methods[] = {{"index", list_index}, {"count", list_count}};
constexpr entry dict_methods[] = {
    {"items", dict_view<sequence_kind::dict_items>},
    {"keys", dict_view<sequence_kind::dict_keys>},
    {"values", dict_view<sequence_kind::dict_values>},
    {"get", dict_get},
    {"copy", itself},
};
constexpr entry float_methods[] = {{"is_integer", float_is_integer}};

// What the sandbox hides because it would change the object.
constexpr std::string_view list_changes[] = {"append", "clear", "pop",    "reverse",
                                             "insert", "sort",  "extend", "remove"};
constexpr std::string_view dict_changes[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view text_missing[] = {"casefold",   "encode",    "expandtabs",
                                             "format_map", "translate", "isidentifier",
                                             "istitle",    "maketrans", "isprintable"};

method_lookup find_among(std::string_view name, std::span<const entry> known,
                         std::span<const std::string_view> changes = {},
                         std::span<const std::string_view> missing = {}) {
  for (const entry& e : known)
    if (e.name == name) return {e.function};
  method_lookup lookup;
  lookup.forbidden = std::find(changes.begin(), changes.end(), name) != changes.end();
  lookup.missing = std::find(missing.begin(), missing.end(), name) != missing.end();
  return lookup;
}

value loop_cycle(runtime& rt, const value& self, const arguments& args) {
  if (args.positional.empty()) rt.fail("loop.cycle() takes one or more items");
  return args.positional[std::get<loop_state*>(self)->index % args.positional.size()];
}

value loop_changed(runtime& rt, const value& self, const arguments& args) {
  loop_state& loop = *std::get<loop_state*>(self);
  const auto same = [&](const value& a, const value& b) { return equal(rt, a, b); };
  const bool changed =
      !loop.has_changed_value || !std::equal(loop.changed_value.begin(), loop.changed_value.end(),
                                             args.positional.begin(), args.positional.end(), same);
  loop.has_changed_value = true;
  loop.changed_value = args.positional;
  return changed;
}
constexpr entry loop_methods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};

}  // namespace

method_lookup find_method(const value& object, std::string_view name) {
  if (std::holds_alternative<text>(object)) return find_among(name, text_methods, {}, text_missing);
  if (std::holds_alternative<const mapping*>(object))
    return find_among(name, dict_methods, dict_changes);
  if (const auto* s = std::get_if<const sequence*>(&object)) {
    if ((*s)->kind == sequence_kind::list) return find_among(name, list_methods, list_changes);
    if ((*s)->kind <= sequence_kind::range) return find_among(name, tuple_methods);
  }
  if (std::holds_alternative<loop_state*>(object)) return find_among(name, loop_methods);
  if (std::holds_alternative<double>(object)) return find_among(name, float_methods);
  return {};
}

}  // namespace quire::jinja
