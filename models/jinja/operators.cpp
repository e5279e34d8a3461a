// Arithmetic, attribute access, subscripts and calls, as Python and Jinja's sandbox define them.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

using integer = std::int64_t;

[[noreturn]] void refuse(runtime& rt, std::string_view symbol, const value& a, const value& b) {
  for (const value& v : {a, b})
    if (const auto* u = std::get_if<undefined>(&v))
      rt.fail(fmt::format("'{}' is undefined", u->name));
  rt.fail(fmt::format("'{}' cannot be used on '{}' and '{}'", symbol, type_name(a), type_name(b)));
}

[[noreturn]] void too_large(runtime& rt) {
  rt.fail("integers beyond 64 bits are not supported", errc::unsupported);
}

value joined_texts(runtime& rt, const text& a, const text& b) {
  const bool safe = a.safe || b.safe;
  const auto part = [&](const text& t) {
    return safe && !t.safe ? escape_html(t.bytes) : std::string(t.bytes);
  };
  return rt.make_text(part(a) + part(b), safe);
}

value joined_lists(runtime& rt, const sequence& a, const sequence& b) {
  std::vector<value> items = a.items;
  items.insert(items.end(), b.items.begin(), b.items.end());
  return rt.make_sequence(a.kind, std::move(items));
}

value repeated(runtime& rt, const value& v, integer count) {
  count = std::max<integer>(count, 0);
  const auto* t = std::get_if<text>(&v);
  const auto* s = t ? nullptr : std::get<const sequence*>(v);
  const std::size_t unit = t ? t->bytes.size() : s->items.size() * sizeof(value);
  if (unit > 0 && static_cast<std::uint64_t>(count) > rt.limits().arena_bytes / unit)
    rt.fail_limit("takes too much memory");
  if (t) {
    std::string bytes;
    bytes.reserve(unit * static_cast<std::size_t>(count));
    for (integer i = 0; unit > 0 && i < count; ++i) bytes += t->bytes;
    return rt.make_text(std::move(bytes), t->safe);
  }
  std::vector<value> items;
  for (integer i = 0; unit > 0 && i < count; ++i)
    items.insert(items.end(), s->items.begin(), s->items.end());
  return rt.make_sequence(s->kind, std::move(items));
}

integer floor_quotient(runtime& rt, integer a, integer b) {
  if (b == 0) rt.fail("division by zero");
  if (b == -1) {
    if (a == std::numeric_limits<integer>::min()) too_large(rt);
    return -a;
  }
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

integer integer_power(runtime& rt, integer base, integer exponent) {
  integer power = 1;
  while (exponent > 0) {
    if (exponent & 1)
      if (__builtin_mul_overflow(power, base, &power)) too_large(rt);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) too_large(rt);
  }
  return power;
}

value integer_operation(runtime& rt, binary_operator op, integer a, integer b) {
  integer number = 0;
  bool overflow = false;
  switch (op) {
    case binary_operator::add:
      overflow = __builtin_add_overflow(a, b, &number);
      break;
    case binary_operator::subtract:
      overflow = __builtin_sub_overflow(a, b, &number);
      break;
    case binary_operator::multiply:
      overflow = __builtin_mul_overflow(a, b, &number);
      break;
    case binary_operator::divide:
      if (b == 0) rt.fail("division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case binary_operator::floor_divide:
      return floor_quotient(rt, a, b);
    case binary_operator::modulo:
      if (b == 0) rt.fail("division by zero");
      if (b == -1) return integer{0};
      number = a % b;
      return number != 0 && (number < 0) != (b < 0) ? number + b : number;
    case binary_operator::power:
      if (b >= 0) return integer_power(rt, a, b);
      if (a == 0) rt.fail("division by zero");
      return std::pow(static_cast<double>(a), static_cast<double>(b));
  }
  if (overflow) too_large(rt);
  return number;
}

/// Remainder with the sign of the divisor, and the quotient that belongs to it.
std::pair<double, double> floor_division(double a, double b) {
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0 && (b < 0) != (remainder < 0)) {
    remainder += b;
    quotient -= 1;
  } else if (remainder == 0) {
    remainder = std::copysign(0.0, b);
  }
  double whole = std::floor(quotient);
  if (quotient - whole > 0.5) whole += 1;
  if (quotient == 0) whole = std::copysign(0.0, a / b);
  return {whole, remainder};
}

value real_operation(runtime& rt, binary_operator op, double a, double b) {
  const bool divides = op == binary_operator::divide || op == binary_operator::floor_divide ||
                       op == binary_operator::modulo;
  if (divides && b == 0) rt.fail("division by zero");
  switch (op) {
    case binary_operator::add:
      return a + b;
    case binary_operator::subtract:
      return a - b;
    case binary_operator::multiply:
      return a * b;
    case binary_operator::divide:
      return a / b;
    case binary_operator::floor_divide:
      return floor_division(a, b).first;
    case binary_operator::modulo:
      return floor_division(a, b).second;
    case binary_operator::power:
      break;
  }
  if (a == 0 && b < 0) rt.fail("division by zero");
  if (a < 0 && std::floor(b) != b) rt.fail("complex numbers are not supported", errc::unsupported);
  const double power = std::pow(a, b);
  if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) rt.fail("the result is too large");
  return power;
}

std::string_view symbol_of(binary_operator op) {
  constexpr std::string_view symbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  return symbols[static_cast<std::size_t>(op)];
}

bool is_repeatable(const value& v) {
  if (std::holds_alternative<text>(v)) return true;
  const auto* s = std::get_if<const sequence*>(&v);
  return s && (*s)->kind <= sequence_kind::tuple;
}

std::optional<value> loop_attribute(const loop_state& loop, std::string_view name) {
  const auto index = static_cast<integer>(loop.index);
  const auto count = static_cast<integer>(loop.items->items.size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return count - index;
  if (name == "revindex0") return count - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == count;
  if (name == "length") return count;
  if (name == "depth")
    return integer{1};  // only recursive loops, which are not supported, go deeper
  if (name == "depth0") return integer{0};
  if (name == "previtem")
    return index == 0 ? value(undefined{"previtem", "loop"}) : loop.items->items[loop.index - 1];
  if (name == "nextitem")
    return index + 1 == count ? value(undefined{"nextitem", "loop"})
                              : loop.items->items[loop.index + 1];
  return {};
}

/// What getattr() of Python finds, or nothing.
std::optional<value> python_attribute(runtime& rt, const value& object, std::string_view name) {
  if (const auto* l = std::get_if<loop_state*>(&object))
    if (const std::optional<value> found = loop_attribute(**l, name)) return found;
  if (const auto* s = std::get_if<space*>(&object)) {
    rt.step((*s)->attributes.items.size() / 8);
    const value* found = (*s)->attributes.find(text{name});
    return found ? std::optional<value>(*found) : std::nullopt;
  }
  if (const auto* c = std::get_if<const callable*>(&object)) {
    for (const auto& [known, item] : (*c)->attributes)
      if (known == name) return item;
    return {};
  }
  const method_lookup method = find_method(object, name);
  if (method.missing)
    rt.fail(fmt::format("the method '{}' of '{}' is not supported", name, type_name(object)),
            errc::unsupported);
  if (method.forbidden) return undefined{name, type_name(object), true};
  if (!method.function) return {};
  return rt.make_callable(name,
                          [function = method.function, object](runtime& r, const arguments& a) {
                            return function(r, object, a);
                          });
}

std::optional<value> item_at(runtime& rt, const value& object, integer index) {
  if (const auto* t = std::get_if<text>(&object)) {
    rt.step_bytes(t->bytes.size());
    if (index < 0) index += static_cast<integer>(num_points(t->bytes));
    if (index < 0) return {};
    const std::size_t start = point_offset(t->bytes, static_cast<std::size_t>(index));
    if (start >= t->bytes.size()) return {};
    std::size_t end = start;
    next_point(t->bytes, end);
    return text{t->bytes.substr(start, end - start), t->safe};
  }
  const auto* s = std::get_if<const sequence*>(&object);
  if (!s || (*s)->kind > sequence_kind::range) return {};
  const std::vector<value>& items = (*s)->items;
  if (index < 0) index += static_cast<integer>(items.size());
  if (index < 0 || index >= static_cast<integer>(items.size())) return {};
  return items[static_cast<std::size_t>(index)];
}

void refuse_undefined(runtime& rt, const value& object) {
  const auto* u = std::get_if<undefined>(&object);
  if (!u) return;
  if (u->unsafe)
    rt.fail(
        fmt::format("'{}' of '{}' would change it, which templates must not", u->name, u->owner));
  if (u->owner.empty()) rt.fail(fmt::format("'{}' is undefined", u->name));
  rt.fail(fmt::format("'{}' has no attribute '{}'", u->owner, u->name));
}

/// The positions that [start:stop:step] selects from `count` items.
std::vector<std::size_t> slice_positions(runtime& rt, integer count, const value& start,
                                         const value& stop, const value& step) {
  const auto given = [&](const value& v, integer fallback) {
    return std::holds_alternative<none>(v) ? fallback : to_int(rt, v, "a bound of a slice");
  };
  const integer stride = given(step, 1);
  if (stride == 0) rt.fail("the step of a slice cannot be zero");
  const integer low = stride < 0 ? -1 : 0;
  const integer high = stride < 0 ? count - 1 : count;
  const auto clamp = [&](integer at) {
    if (at < 0) at = at < -count ? low : at + count;
    return std::min(std::max(at, low), high);
  };
  integer at =
      std::holds_alternative<none>(start) ? (stride < 0 ? high : low) : clamp(given(start, 0));
  const integer end =
      std::holds_alternative<none>(stop) ? (stride < 0 ? low : high) : clamp(given(stop, 0));
  std::vector<std::size_t> positions;
  while (stride > 0 ? at < end : at > end) {
    positions.push_back(static_cast<std::size_t>(at));
    if (stride > count || stride < -count) break;  // one item; avoids overflow
    at += stride;
  }
  return positions;
}

}  // namespace

value binary_operation(runtime& rt, binary_operator op, const value& a, const value& b) {
  integer m = 0;
  integer n = 0;
  if (is_integral(a, m) && is_integral(b, n)) return integer_operation(rt, op, m, n);
  if (is_number(a) && is_number(b)) return real_operation(rt, op, to_double(a), to_double(b));
  const auto* s = std::get_if<text>(&a);
  const auto* t = std::get_if<text>(&b);
  if (op == binary_operator::add) {
    if (s && t) return joined_texts(rt, *s, *t);
    const auto* x = std::get_if<const sequence*>(&a);
    const auto* y = std::get_if<const sequence*>(&b);
    if (x && y && (*x)->kind == (*y)->kind && is_repeatable(a)) return joined_lists(rt, **x, **y);
  }
  if (op == binary_operator::multiply) {
    if (is_repeatable(a) && is_integral(b, n)) return repeated(rt, a, n);
    if (is_repeatable(b) && is_integral(a, m)) return repeated(rt, b, m);
  }
  if (op == binary_operator::modulo && s)
    return rt.make_text(format_percent(rt, s->bytes, b), s->safe);
  refuse(rt, symbol_of(op), a, b);
}

value get_attribute(runtime& rt, const value& object, std::string_view name) {
  refuse_undefined(rt, object);
  if (const std::optional<value> found = python_attribute(rt, object, name)) return *found;
  if (const auto* m = std::get_if<const mapping*>(&object)) {
    rt.step((*m)->items.size() / 8);
    if (const value* found = (*m)->find(text{name})) return *found;
  }
  return undefined{name, type_name(object)};
}

value get_item(runtime& rt, const value& object, const value& index) {
  refuse_undefined(rt, object);
  if (const auto* m = std::get_if<const mapping*>(&object)) {
    const auto* s = std::get_if<const sequence*>(&index);
    const bool hashable = !std::holds_alternative<const mapping*>(index) &&
                          (!s || (*s)->kind == sequence_kind::tuple);
    rt.step((*m)->items.size() / 8);
    if (const value* found = hashable ? (*m)->find(index) : nullptr) return *found;
  }
  integer position = 0;
  if (is_integral(index, position))
    if (const std::optional<value> found = item_at(rt, object, position)) return *found;
  if (const auto* t = std::get_if<text>(&index)) {
    if (const std::optional<value> found = python_attribute(rt, object, t->bytes)) return *found;
    return undefined{t->bytes, type_name(object)};
  }
  return undefined{to_text(rt, index), type_name(object)};
}

value get_slice(runtime& rt, const value& object, const value& start, const value& stop,
                const value& step) {
  refuse_undefined(rt, object);
  if (const auto* t = std::get_if<text>(&object)) {
    const std::vector<std::string_view> points = split_points(t->bytes);
    rt.step(points.size() / 4);
    std::string bytes;
    for (const std::size_t at :
         slice_positions(rt, static_cast<integer>(points.size()), start, stop, step))
      bytes += points[at];
    return rt.make_text(std::move(bytes), t->safe);
  }
  const auto* s = std::get_if<const sequence*>(&object);
  if (!s || (*s)->kind > sequence_kind::range)
    rt.fail(fmt::format("'{}' cannot be sliced", type_name(object)));
  std::vector<value> items;
  for (const std::size_t at :
       slice_positions(rt, static_cast<integer>((*s)->items.size()), start, stop, step))
    items.push_back((*s)->items[at]);
  // A part of a range is a list here, which only printing it could tell.
  const bool is_tuple = (*s)->kind == sequence_kind::tuple;
  return rt.make_sequence(is_tuple ? sequence_kind::tuple : sequence_kind::list, std::move(items));
}

value get_path(runtime& rt, const value& object, const value& path) {
  const auto* t = std::get_if<text>(&path);
  if (!t) return get_item(rt, object, path);
  value item = object;
  for (const std::string_view part : split_at(t->bytes, ".", std::string_view::npos, false)) {
    const bool is_index =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
    item = is_index ? get_item(rt, item, static_cast<integer>(std::stol(std::string(part))))
                    : get_item(rt, item, text{part});
  }
  return item;
}

value call_value(runtime& rt, const value& callee, const arguments& args) {
  refuse_undefined(rt, callee);
  const auto* c = std::get_if<const callable*>(&callee);
  if (!c) rt.fail(fmt::format("'{}' cannot be called", type_name(callee)));
  return (*c)->invoke(rt, args);
}

}  // namespace quire::jinja
