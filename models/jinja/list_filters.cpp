// Filters that work on the items of a list, a dict or a text.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

value generator(runtime& rt, std::vector<value> items) {
  return rt.make_sequence(sequence_kind::generator, std::move(items));
}

value folded(runtime& rt, const value& v, bool case_sensitive) {
  const auto* t = std::get_if<text>(&v);
  return t && !case_sensitive ? value(rt.make_text(lower(t->bytes))) : v;
}

/// What sorting and comparing looks at: the item or its attributes, a list when there are several.
value key_of(runtime& rt, const value& item, const value* attribute, bool case_sensitive) {
  const auto* t = attribute ? std::get_if<text>(attribute) : nullptr;
  if (!attribute) return folded(rt, item, case_sensitive);
  if (!t || t->bytes.find(',') == std::string_view::npos)
    return folded(rt, get_path(rt, item, *attribute), case_sensitive);
  std::vector<value> keys;
  for (const std::string_view part : split_at(t->bytes, ",", std::string_view::npos, false))
    keys.push_back(folded(rt, get_path(rt, item, text{part}), case_sensitive));
  return rt.make_list(std::move(keys));
}

/// The items in the order of their keys.
std::vector<value> sorted(runtime& rt, std::vector<value> items, const std::vector<value>& keys,
                          bool reversed) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return reversed ? less(rt, keys[b], keys[a]) : less(rt, keys[a], keys[b]);
  });
  std::vector<value> result;
  for (const std::size_t i : order) result.push_back(items[i]);
  return result;
}

value filter_length(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "length", args, {});
  return length(rt, v);
}

value filter_list(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "list", args, {});
  return rt.make_list(iterate(rt, v));
}

value filter_items(runtime& rt, const value& v, const arguments&) {
  if (is_undefined(v)) return generator(rt, {});
  const auto* m = std::get_if<const mapping*>(&v);
  if (!m) rt.fail(fmt::format("'items' takes a dict, not '{}'", type_name(v)));
  std::vector<value> items;
  for (const auto& [key, item] : (*m)->items)
    items.push_back(rt.make_sequence(sequence_kind::tuple, {key, item}));
  return generator(rt, std::move(items));
}

value filter_first(runtime& rt, const value& v, const arguments&) {
  const std::vector<value> items = iterate(rt, v);
  return items.empty() ? value(undefined{"the first item of an empty sequence"}) : items.front();
}

value filter_last(runtime& rt, const value& v, const arguments&) {
  const auto* s = std::get_if<const sequence*>(&v);
  if (s && (*s)->kind == sequence_kind::generator) rt.fail("'last' cannot take a generator");
  const std::vector<value> items = iterate(rt, v);
  return items.empty() ? value(undefined{"the last item of an empty sequence"}) : items.back();
}

value filter_join(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "join", args, {"d", "attribute"});
  const std::string_view separator = bound.get_text(0, "");
  std::string joined;
  bool first = true;
  for (const value& item : iterate(rt, v)) {
    if (!std::exchange(first, false)) joined += separator;
    append_text(rt, joined, bound.get_some(1) ? get_path(rt, item, *bound.get(1)) : item);
    if (joined.size() > rt.limits().arena_bytes) rt.fail_limit("takes too much memory");
  }
  return rt.make_text(std::move(joined));
}

value filter_reverse(runtime& rt, const value& v, const arguments&) {
  std::vector<value> items = iterate(rt, v);
  std::reverse(items.begin(), items.end());
  const auto* t = std::get_if<text>(&v);
  if (!t) return generator(rt, std::move(items));
  std::string reversed;
  for (const value& point : items) reversed += std::get<text>(point).bytes;
  return rt.make_text(std::move(reversed), t->safe);
}

value filter_sort(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<value> items = iterate(rt, v);
  std::vector<value> keys;
  for (const value& item : items)
    keys.push_back(key_of(rt, item, bound.get_some(2), bound.get_bool(1, false)));
  return rt.make_list(sorted(rt, std::move(items), keys, bound.get_bool(0, false)));
}

value filter_dictsort(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "dictsort", args, {"case_sensitive", "by", "reverse"});
  const auto* m = std::get_if<const mapping*>(&v);
  if (!m) rt.fail(fmt::format("'dictsort' takes a dict, not '{}'", type_name(v)));
  const std::string_view by = bound.get_text(1, "key");
  if (by != "key" && by != "value") rt.fail("'dictsort' sorts by key or value");
  std::vector<value> items;
  std::vector<value> keys;
  for (const auto& [key, item] : (*m)->items) {
    items.push_back(rt.make_sequence(sequence_kind::tuple, {key, item}));
    keys.push_back(folded(rt, by == "key" ? key : item, bound.get_bool(0, false)));
  }
  return rt.make_list(sorted(rt, std::move(items), keys, bound.get_bool(2, false)));
}

value filter_unique(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "unique", args, {"case_sensitive", "attribute"});
  std::vector<value> kept;
  std::vector<value> keys;
  for (const value& item : iterate(rt, v)) {
    const value key = key_of(rt, item, bound.get_some(1), bound.get_bool(0, false));
    check_key(rt, key);
    const auto same = [&](const value& seen) { return equal(rt, seen, key); };
    if (std::any_of(keys.begin(), keys.end(), same)) continue;
    keys.push_back(key);
    kept.push_back(item);
  }
  return generator(rt, std::move(kept));
}

template <bool Largest>
value filter_extreme(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, Largest ? "max" : "min", args, {"case_sensitive", "attribute"});
  const std::vector<value> items = iterate(rt, v);
  if (items.empty()) return undefined{"the extreme of an empty sequence"};
  const auto key = [&](const value& item) {
    return key_of(rt, item, bound.get_some(1), bound.get_bool(0, false));
  };
  std::size_t best = 0;
  value best_key = key(items[0]);
  for (std::size_t i = 1; i < items.size(); ++i) {
    const value candidate = key(items[i]);
    if (!(Largest ? less(rt, best_key, candidate) : less(rt, candidate, best_key))) continue;
    best = i;
    best_key = candidate;
  }
  return items[best];
}

value filter_sum(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "sum", args, {"attribute", "start"});
  value total = bound.get(1) ? *bound.get(1) : value(std::int64_t{0});
  if (std::holds_alternative<text>(total)) rt.fail("'sum' cannot add texts; use join");
  for (const value& item : iterate(rt, v))
    total = binary_operation(rt, binary_operator::add, total,
                             bound.get_some(0) ? get_path(rt, item, *bound.get(0)) : item);
  return total;
}

std::size_t positive(const bound_arguments& bound, runtime& rt, std::string_view filter) {
  const std::int64_t count = bound.get_int(0, 0);
  if (count <= 0) rt.fail(fmt::format("'{}' needs a count above zero", filter));
  return static_cast<std::size_t>(count);
}

value filter_batch(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "batch", args, {"linecount", "fill_with"}, 1);
  const std::size_t size = positive(bound, rt, "batch");
  const std::vector<value> items = iterate(rt, v);
  std::vector<value> batches;
  for (std::size_t at = 0; at < items.size(); at += std::min(size, items.size())) {
    const std::size_t end = at + std::min(size, items.size() - at);
    std::vector<value> batch(items.begin() + static_cast<std::ptrdiff_t>(at),
                             items.begin() + static_cast<std::ptrdiff_t>(end));
    if (const value* filler = bound.get_some(1)) {
      rt.charge((size - batch.size()) * sizeof(value));
      batch.resize(size, *filler);
    }
    batches.push_back(rt.make_list(std::move(batch)));
  }
  return generator(rt, std::move(batches));
}

value filter_slice(runtime& rt, const value& v, const arguments& args) {
  const bound_arguments bound(rt, "slice", args, {"slices", "fill_with"}, 1);
  const std::size_t slices = positive(bound, rt, "slice");
  const std::vector<value> items = iterate(rt, v);
  if (slices > 100'000) rt.fail_limit("asks for too many slices");
  const std::size_t each = items.size() / slices;
  const std::size_t longer = items.size() % slices;
  std::vector<value> made;
  std::size_t at = 0;
  for (std::size_t i = 0; i < slices; ++i) {
    const std::size_t count = each + (i < longer ? 1 : 0);
    std::vector<value> part(items.begin() + static_cast<std::ptrdiff_t>(at),
                            items.begin() + static_cast<std::ptrdiff_t>(at + count));
    at += count;
    if (bound.get_some(1) && i >= longer) part.push_back(*bound.get(1));
    made.push_back(rt.make_list(std::move(part)));
  }
  return generator(rt, std::move(made));
}

constexpr named_function<filter_function> table[] = {
    {"length", filter_length},     {"count", filter_length},    {"list", filter_list},
    {"items", filter_items},       {"first", filter_first},     {"last", filter_last},
    {"join", filter_join},         {"reverse", filter_reverse}, {"sort", filter_sort},
    {"dictsort", filter_dictsort}, {"unique", filter_unique},   {"min", filter_extreme<false>},
    {"max", filter_extreme<true>}, {"sum", filter_sum},         {"batch", filter_batch},
    {"slice", filter_slice},
};

}  // namespace

std::span<const named_function<filter_function>> list_filters() {
  return table;
}

}  // namespace quire::jinja
