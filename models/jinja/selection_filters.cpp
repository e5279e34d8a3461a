// Filters that apply another filter, a test or an attribute to every item.
#include <fmt/format.h>

#include "models/jinja/builtins.hpp"

namespace quire::jinja {
namespace {

/// The arguments behind the first `count`, for the filter or test that is applied.
arguments rest_of(const arguments& args, std::size_t count) {
  arguments rest = args;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

std::string_view name_argument(runtime& rt, const arguments& args, std::size_t index) {
  const auto* name = std::get_if<text>(&args.positional[index]);
  if (!name) rt.fail("the name of a filter or test must be a text");
  return name->bytes;
}

value attribute_or(runtime& rt, const value& item, const value& path, const value* fallback) {
  const value found = get_path(rt, item, path);
  return is_undefined(found) && fallback ? *fallback : found;
}

/// The items to look at; as in Jinja nothing at all for whatever is false, none and 0 included.
std::vector<value> items_of(runtime& rt, const value& v) {
  return truth(rt, v) ? iterate(rt, v) : std::vector<value>();
}

value filter_map(runtime& rt, const value& v, const arguments& args) {
  std::vector<value> mapped;
  if (args.positional.empty()) {
    const bound_arguments bound(rt, "map", args, {"attribute", "default"});
    if (!bound.get(0)) rt.fail("'map' needs the name of a filter, or attribute=");
    for (const value& item : items_of(rt, v))
      mapped.push_back(attribute_or(rt, item, *bound.get(0), bound.get_some(1)));
  } else {
    const std::string_view name = name_argument(rt, args, 0);
    const filter_function filter = find_filter(name);
    if (!filter) rt.fail(fmt::format("there is no filter '{}'", name), errc::unsupported);
    const arguments rest = rest_of(args, 1);
    for (const value& item : items_of(rt, v)) mapped.push_back(filter(rt, item, rest));
  }
  return rt.make_sequence(sequence_kind::generator, std::move(mapped));
}

/// select, reject, selectattr and rejectattr: keeps the items whose test gives `Keep`.
template <bool Keep, bool ByAttribute>
value filter_select(runtime& rt, const value& v, const arguments& args) {
  constexpr std::size_t skipped = ByAttribute ? 1 : 0;
  if (args.positional.size() < skipped) rt.fail("the filter needs the name of an attribute");
  test_function test = nullptr;
  arguments rest;
  if (args.positional.size() > skipped) {
    const std::string_view name = name_argument(rt, args, skipped);
    test = find_test(name);
    if (!test) rt.fail(fmt::format("there is no test '{}'", name), errc::unsupported);
    rest = rest_of(args, skipped + 1);
  }
  std::vector<value> kept;
  for (const value& item : items_of(rt, v)) {
    const value subject = ByAttribute ? get_path(rt, item, args.positional[0]) : item;
    if ((test ? test(rt, subject, rest) : truth(rt, subject)) == Keep) kept.push_back(item);
  }
  return rt.make_sequence(sequence_kind::generator, std::move(kept));
}

constexpr named_function<filter_function> table[] = {
    {"map", filter_map},
    {"select", filter_select<true, false>},
    {"reject", filter_select<false, false>},
    {"selectattr", filter_select<true, true>},
    {"rejectattr", filter_select<false, true>},
};

}  // namespace

std::span<const named_function<filter_function>> selection_filters() {
  return table;
}

}  // namespace quire::jinja
