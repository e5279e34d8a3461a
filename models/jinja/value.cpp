#include "models/jinja/value.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

constexpr std::size_t value_bytes = sizeof(value);

/// Equality of keys, all of which are hashable.
bool equal_keys(const value& a, const value& b) {
  if (const auto* x = std::get_if<text>(&a)) {
    const auto* y = std::get_if<text>(&b);
    return y && x->bytes == y->bytes;
  }
  std::int64_t m = 0;
  std::int64_t n = 0;
  if (is_integral(a, m) && is_integral(b, n)) return m == n;
  if (is_number(a) && is_number(b)) return to_double(a) == to_double(b);
  if (const auto* x = std::get_if<const sequence*>(&a)) {
    const auto* y = std::get_if<const sequence*>(&b);
    return y && (*x)->kind == (*y)->kind &&
           std::equal((*x)->items.begin(), (*x)->items.end(), (*y)->items.begin(),
                      (*y)->items.end(), equal_keys);
  }
  return a.index() == b.index() && (std::holds_alternative<none>(a) || is_undefined(a));
}

bool equal_sequences(runtime& rt, const sequence& a, const sequence& b, std::uint32_t depth) {
  if (&a == &b) return true;
  // Views and lazy iterators are equal only to themselves, except for keys and items, which are
  // sets.
  const auto is_plain = [](sequence_kind k) {
    return k == sequence_kind::list || k == sequence_kind::tuple || k == sequence_kind::range;
  };
  if (a.kind != b.kind || !is_plain(a.kind) || a.items.size() != b.items.size()) return false;
  for (std::size_t i = 0; i < a.items.size(); ++i)
    if (!equal(rt, a.items[i], b.items[i], depth + 1)) return false;
  return true;
}

bool equal_mappings(runtime& rt, const mapping& a, const mapping& b, std::uint32_t depth) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, item] : a.items) {
    rt.step(1 + b.items.size() / 8);
    const value* other = b.find(key);
    if (!other || !equal(rt, item, *other, depth + 1)) return false;
  }
  return true;
}

/// -1, 0, 1, or 2 where one of them is not a number.
int compare_numbers(const value& a, const value& b) {
  std::int64_t m = 0;
  std::int64_t n = 0;
  if (is_integral(a, m) && is_integral(b, n)) return m < n ? -1 : m > n ? 1 : 0;
  const double x = to_double(a);
  const double y = to_double(b);
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

}  // namespace

const value* mapping::find(const value& key) const {
  for (const auto& [name, item] : items)
    if (equal_keys(name, key)) return &item;
  return nullptr;
}

void mapping::set(const value& key, const value& item) {
  for (auto& [name, old] : items) {
    if (!equal_keys(name, key)) continue;
    old = item;
    return;
  }
  items.emplace_back(key, item);
}

text runtime::make_text(std::string bytes, bool safe) {
  charge(bytes.size() + sizeof(std::string));
  step_bytes(bytes.size());
  texts_.push_back(std::move(bytes));
  return {texts_.back(), safe};
}

const sequence* runtime::make_sequence(sequence_kind kind, std::vector<value> items) {
  charge(items.size() * value_bytes);
  step(items.size() / 4);
  sequence* made = make<sequence>();
  made->kind = kind;
  made->items = std::move(items);
  return made;
}

const sequence* runtime::make_range(std::int64_t start, std::int64_t stop, std::int64_t step) {
  sequence* made = make<sequence>();
  made->kind = sequence_kind::range;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    made->items.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  charge(made->items.size() * value_bytes);
  this->step(made->items.size() / 4);
  made->shown = make_text(step == 1 ? fmt::format("range({}, {})", start, stop)
                                    : fmt::format("range({}, {}, {})", start, stop, step))
                    .bytes;
  return made;
}

mapping* runtime::make_mapping() {
  return make<mapping>();
}

const callable* runtime::make_callable(std::string_view name,
                                       std::function<value(runtime&, const arguments&)> invoke) {
  callable* made = make<callable>();
  made->name = name;
  made->invoke = std::move(invoke);
  return made;
}

value runtime::from_json(const nlohmann::ordered_json& json, std::uint32_t depth) {
  using type = nlohmann::ordered_json::value_t;
  if (depth > limits_.depth / 4) fail_limit("is given data that is nested too deeply");
  switch (json.type()) {
    case type::boolean:
      return json.get<bool>();
    case type::number_integer:
      return json.get<std::int64_t>();
    case type::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        fail(fmt::format("the integer {} is too large", number));
      return static_cast<std::int64_t>(number);
    }
    case type::number_float:
      return json.get<double>();
    case type::string:
      return text{json.get_ref<const std::string&>()};
    case type::array: {
      std::vector<value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return make_list(std::move(items));
    }
    case type::object: {
      mapping* object = make_mapping();
      charge(json.size() * 2 * value_bytes);
      for (const auto& [key, item] : json.items())
        object->items.emplace_back(text{key}, from_json(item, depth + 1));
      return object;
    }
    default:
      return none{};
  }
}

void runtime::fail(std::string message, errc code) const {
  throw failure{code, std::move(message), offset};
}

void runtime::fail_limit(std::string_view what) const {
  fail(fmt::format("the template {}", what), errc::invalid_argument);
}

std::string_view type_name(const value& v) {
  struct namer {
    std::string_view operator()(const undefined&) const { return "Undefined"; }
    std::string_view operator()(const none&) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(std::int64_t) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const text& t) const { return t.safe ? "Markup" : "str"; }
    std::string_view operator()(const sequence* s) const {
      constexpr std::string_view names[] = {"list",      "tuple",       "range",     "generator",
                                            "dict_keys", "dict_values", "dict_items"};
      return names[static_cast<std::size_t>(s->kind)];
    }
    std::string_view operator()(const mapping*) const { return "dict"; }
    std::string_view operator()(const space*) const { return "Namespace"; }
    std::string_view operator()(const loop_state*) const { return "LoopContext"; }
    std::string_view operator()(const callable*) const { return "function"; }
  };
  return std::visit(namer{}, v);
}

bool is_undefined(const value& v) {
  return std::holds_alternative<undefined>(v);
}

bool is_integral(const value& v, std::int64_t& number) {
  if (const auto* i = std::get_if<std::int64_t>(&v)) return number = *i, true;
  if (const auto* b = std::get_if<bool>(&v)) return number = *b ? 1 : 0, true;
  return false;
}

bool is_number(const value& v) {
  return std::holds_alternative<std::int64_t>(v) || std::holds_alternative<double>(v) ||
         std::holds_alternative<bool>(v);
}

double to_double(const value& v) {
  if (const auto* d = std::get_if<double>(&v)) return *d;
  std::int64_t number = 0;
  is_integral(v, number);
  return static_cast<double>(number);
}

bool truth(runtime&, const value& v) {
  struct judge {
    bool operator()(const undefined&) const { return false; }
    bool operator()(const none&) const { return false; }
    bool operator()(bool b) const { return b; }
    bool operator()(std::int64_t i) const { return i != 0; }
    bool operator()(double d) const { return d != 0; }
    bool operator()(const text& t) const { return !t.bytes.empty(); }
    bool operator()(const sequence* s) const {
      return s->kind == sequence_kind::generator || !s->items.empty();
    }
    bool operator()(const mapping* m) const { return !m->items.empty(); }
    bool operator()(const space*) const { return true; }
    bool operator()(const loop_state*) const { return true; }
    bool operator()(const callable*) const { return true; }
  };
  return std::visit(judge{}, v);
}

bool equal(runtime& rt, const value& a, const value& b, std::uint32_t depth) {
  rt.step();
  if (depth > rt.limits().depth / 4) rt.fail_limit("compares data that is nested too deeply");
  if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
  if (a.index() != b.index()) return false;
  if (const auto* t = std::get_if<text>(&a)) {
    const std::string_view other = std::get<text>(b).bytes;
    rt.step_bytes(std::min(t->bytes.size(), other.size()));
    return t->bytes == other;
  }
  if (const auto* s = std::get_if<const sequence*>(&a))
    return equal_sequences(rt, **s, *std::get<const sequence*>(b), depth);
  if (const auto* m = std::get_if<const mapping*>(&a))
    return equal_mappings(rt, **m, *std::get<const mapping*>(b), depth);
  if (const auto* s = std::get_if<space*>(&a)) return *s == std::get<space*>(b);
  if (const auto* l = std::get_if<loop_state*>(&a)) return *l == std::get<loop_state*>(b);
  if (const auto* c = std::get_if<const callable*>(&a)) return *c == std::get<const callable*>(b);
  return true;  // both none, or both undefined
}

bool less(runtime& rt, const value& a, const value& b, std::uint32_t depth) {
  rt.step();
  if (depth > rt.limits().depth / 4) rt.fail_limit("compares data that is nested too deeply");
  if (is_number(a) && is_number(b)) return compare_numbers(a, b) == -1;
  const auto* s = std::get_if<text>(&a);
  const auto* t = std::get_if<text>(&b);
  if (s && t) {
    rt.step_bytes(std::min(s->bytes.size(), t->bytes.size()));
    return s->bytes < t->bytes;  // the order of UTF-8 bytes is that of code points
  }
  const auto* x = std::get_if<const sequence*>(&a);
  const auto* y = std::get_if<const sequence*>(&b);
  if (x && y && (*x)->kind == (*y)->kind && (*x)->kind <= sequence_kind::tuple) {
    const std::vector<value>& left = (*x)->items;
    const std::vector<value>& right = (*y)->items;
    for (std::size_t i = 0; i < left.size() && i < right.size(); ++i)
      if (!equal(rt, left[i], right[i], depth + 1)) return less(rt, left[i], right[i], depth + 1);
    return left.size() < right.size();
  }
  for (const value& v : {a, b})
    if (const auto* u = std::get_if<undefined>(&v))
      rt.fail(fmt::format("'{}' is undefined and cannot be compared", u->name));
  rt.fail(fmt::format("'{}' and '{}' have no order", type_name(a), type_name(b)));
}

bool contains(runtime& rt, const value& container, const value& item) {
  if (const auto* whole = std::get_if<text>(&container)) {
    const auto* part = std::get_if<text>(&item);
    if (!part) rt.fail(fmt::format("'in' a text takes a text, not '{}'", type_name(item)));
    rt.step_bytes(whole->bytes.size());
    return whole->bytes.find(part->bytes) != std::string_view::npos;
  }
  if (const auto* map = std::get_if<const mapping*>(&container)) {
    check_key(rt, item);
    rt.step((*map)->items.size() / 8);
    return (*map)->find(item) != nullptr;
  }
  const std::vector<value> items = iterate(rt, container);
  return std::any_of(items.begin(), items.end(),
                     [&](const value& v) { return equal(rt, v, item); });
}

std::int64_t length(runtime& rt, const value& v) {
  if (const auto* t = std::get_if<text>(&v)) {
    rt.step_bytes(t->bytes.size());
    return static_cast<std::int64_t>(num_points(t->bytes));
  }
  if (const auto* s = std::get_if<const sequence*>(&v))
    if ((*s)->kind != sequence_kind::generator)
      return static_cast<std::int64_t>((*s)->items.size());
  if (const auto* m = std::get_if<const mapping*>(&v))
    return static_cast<std::int64_t>((*m)->items.size());
  if (const auto* l = std::get_if<loop_state*>(&v))
    return static_cast<std::int64_t>((*l)->items->items.size());
  if (is_undefined(v)) return 0;
  rt.fail(fmt::format("'{}' has no length", type_name(v)));
}

std::vector<value> iterate(runtime& rt, const value& v) {
  std::vector<value> items;
  if (const auto* t = std::get_if<text>(&v)) {
    rt.step(t->bytes.size() / 4);
    for (const std::string_view point : split_points(t->bytes)) items.push_back(text{point});
  } else if (const auto* s = std::get_if<const sequence*>(&v)) {
    if ((*s)->kind == sequence_kind::generator && std::exchange((*s)->consumed, true)) return items;
    items = (*s)->items;
  } else if (const auto* m = std::get_if<const mapping*>(&v)) {
    for (const auto& entry : (*m)->items) items.push_back(entry.first);
  } else if (!is_undefined(v)) {
    rt.fail(fmt::format("'{}' cannot be iterated over", type_name(v)));
  }
  rt.step(items.size() / 4);
  return items;
}

const sequence* iterable(runtime& rt, const value& v) {
  const auto* s = std::get_if<const sequence*>(&v);
  if (s && (*s)->kind != sequence_kind::generator) return *s;
  return rt.make_list(iterate(rt, v));
}

void check_key(runtime& rt, const value& key) {
  if (std::holds_alternative<const mapping*>(key)) rt.fail("a dict cannot be a key");
  const auto* s = std::get_if<const sequence*>(&key);
  if (!s) return;
  if ((*s)->kind != sequence_kind::tuple)
    rt.fail(fmt::format("a {} cannot be a key", type_name(key)));
  for (const value& item : (*s)->items) {
    rt.step();
    check_key(rt, item);
  }
}

std::int64_t to_int(runtime& rt, const value& v, std::string_view what) {
  std::int64_t number = 0;
  if (!is_integral(v, number))
    rt.fail(fmt::format("{} must be an integer, not '{}'", what, type_name(v)));
  return number;
}

}  // namespace quire::jinja
