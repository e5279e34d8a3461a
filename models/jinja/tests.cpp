// The tests of Jinja: `x is defined`, `x is string`, ...
#include <fmt/format.h>

#include <algorithm>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

template <class Predicate>
bool all_cased(runtime& rt, const value& v, Predicate is_right, Predicate is_wrong) {
  bool any = false;
  const std::string_view bytes = to_text(rt, v);
  for (std::size_t at = 0; at < bytes.size();) {
    const char32_t point = next_point(bytes, at);
    if (is_wrong(point)) return false;
    any |= is_right(point);
  }
  return any;
}

const value& operand(runtime& rt, const arguments& args) {
  if (args.positional.size() != 1 || !args.named.empty()) rt.fail("the test takes one argument");
  return args.positional[0];
}

void no_operand(runtime& rt, const arguments& args) {
  if (!args.positional.empty() || !args.named.empty()) rt.fail("the test takes no argument");
}

template <class T>
bool holds(runtime& rt, const value& v, const arguments& args) {
  no_operand(rt, args);
  return std::holds_alternative<T>(v);
}

bool is_defined(runtime& rt, const value& v, const arguments& args) {
  no_operand(rt, args);
  return !is_undefined(v);
}

bool is_exactly(const value& v, bool expected) {
  const auto* b = std::get_if<bool>(&v);
  return b && *b == expected;
}

bool is_iterable(runtime& rt, const value& v, const arguments& args) {
  no_operand(rt, args);
  return std::holds_alternative<text>(v) || std::holds_alternative<const sequence*>(v) ||
         std::holds_alternative<const mapping*>(v) || is_undefined(v) ||
         std::holds_alternative<loop_state*>(v);
}

bool is_sequence(runtime& rt, const value& v, const arguments& args) {
  no_operand(rt, args);
  if (const auto* s = std::get_if<const sequence*>(&v)) return (*s)->kind <= sequence_kind::range;
  return std::holds_alternative<text>(v) || std::holds_alternative<const mapping*>(v) ||
         is_undefined(v);
}

bool is_callable(runtime& rt, const value& v, const arguments& args) {
  no_operand(rt, args);
  return std::holds_alternative<const callable*>(v) || is_undefined(v);
}

bool remainder_is(runtime& rt, const value& v, const value& divisor, std::int64_t expected) {
  const value rest = binary_operation(rt, binary_operator::modulo, v, divisor);
  return equal(rt, rest, expected);
}

/// Identity, as far as it can be told from equality here: containers by address, the rest by value.
bool is_same(runtime& rt, const value& v, const arguments& args) {
  const value& other = operand(rt, args);
  if (v.index() != other.index()) return false;
  if (const auto* s = std::get_if<const sequence*>(&v))
    return *s == std::get<const sequence*>(other);
  if (const auto* m = std::get_if<const mapping*>(&v)) return *m == std::get<const mapping*>(other);
  return equal(rt, v, other);
}

bool is_equal(runtime& rt, const value& v, const arguments& args) {
  return equal(rt, v, operand(rt, args));
}
bool is_unequal(runtime& rt, const value& v, const arguments& args) {
  return !equal(rt, v, operand(rt, args));
}
bool is_less(runtime& rt, const value& v, const arguments& args) {
  return less(rt, v, operand(rt, args));
}
bool is_greater(runtime& rt, const value& v, const arguments& args) {
  return less(rt, operand(rt, args), v);
}
bool is_at_most(runtime& rt, const value& v, const arguments& args) {
  return less(rt, v, operand(rt, args)) || equal(rt, v, operand(rt, args));
}
bool is_at_least(runtime& rt, const value& v, const arguments& args) {
  return less(rt, operand(rt, args), v) || equal(rt, v, operand(rt, args));
}

constexpr named_function<test_function> table[] = {
    {"defined", is_defined},
    {"undefined", holds<undefined>},
    {"none", holds<none>},
    {"string", holds<text>},
    {"integer", holds<std::int64_t>},
    {"float", holds<double>},
    {"boolean", holds<bool>},
    {"mapping", holds<const mapping*>},
    {"number",
     [](runtime& rt, const value& v, const arguments& args) {
       no_operand(rt, args);
       return is_number(v);
     }},
    {"true", [](runtime&, const value& v, const arguments&) { return is_exactly(v, true); }},
    {"false", [](runtime&, const value& v, const arguments&) { return is_exactly(v, false); }},
    {"iterable", is_iterable},
    {"sequence", is_sequence},
    {"callable", is_callable},
    {"odd", [](runtime& rt, const value& v,
               const arguments&) { return remainder_is(rt, v, std::int64_t{2}, 1); }},
    {"even", [](runtime& rt, const value& v,
                const arguments&) { return remainder_is(rt, v, std::int64_t{2}, 0); }},
    {"divisibleby",
     [](runtime& rt, const value& v, const arguments& args) {
       return remainder_is(rt, v, operand(rt, args), 0);
     }},
    {"lower", [](runtime& rt, const value& v,
                 const arguments&) { return all_cased(rt, v, is_lower, is_upper); }},
    {"upper", [](runtime& rt, const value& v,
                 const arguments&) { return all_cased(rt, v, is_upper, is_lower); }},
    {"in", [](runtime& rt, const value& v,
              const arguments& args) { return contains(rt, operand(rt, args), v); }},
    {"sameas", is_same},
    {"escaped",
     [](runtime&, const value& v, const arguments&) {
       const auto* t = std::get_if<text>(&v);
       return t && t->safe;
     }},
    {"filter", [](runtime& rt, const value& v,
                  const arguments&) { return find_filter(to_text(rt, v)) != nullptr; }},
    {"test", [](runtime& rt, const value& v,
                const arguments&) { return find_test(to_text(rt, v)) != nullptr; }},
    {"eq", is_equal},
    {"equalto", is_equal},
    {"==", is_equal},
    {"ne", is_unequal},
    {"!=", is_unequal},
    {"lt", is_less},
    {"lessthan", is_less},
    {"<", is_less},
    {"le", is_at_most},
    {"<=", is_at_most},
    {"gt", is_greater},
    {"greaterthan", is_greater},
    {">", is_greater},
    {"ge", is_at_least},
    {">=", is_at_least},
};

}  // namespace

std::span<const named_function<test_function>> tests() {
  return table;
}

}  // namespace quire::jinja
