#include "models/jinja/builtins.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace quire::jinja {
namespace {

template <class Function>
Function find_in(std::span<const named_function<Function>> table, std::string_view name) {
  for (const named_function<Function>& entry : table)
    if (entry.name == name) return entry.function;
  return nullptr;
}

}  // namespace

filter_function find_filter(std::string_view name) {
  for (const auto table : {text_filters(), list_filters(), selection_filters()})
    if (const filter_function found = find_in(table, name)) return found;
  return nullptr;
}

test_function find_test(std::string_view name) {
  return find_in(tests(), name);
}

bound_arguments::bound_arguments(runtime& rt, std::string_view function, const arguments& given,
                                 std::initializer_list<std::string_view> names,
                                 std::size_t required)
    : rt_(&rt), function_(function), values_(names.size()), names_(names) {
  if (given.positional.size() > names.size())
    rt.fail(fmt::format("'{}' takes at most {} arguments", function, names.size()));
  for (std::size_t i = 0; i < given.positional.size(); ++i) values_[i] = &given.positional[i];
  for (const auto& [name, item] : given.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end() || name.empty())
      rt.fail(fmt::format("'{}' takes no argument '{}'", function, name));
    const value*& place = values_[static_cast<std::size_t>(found - names_.begin())];
    if (place) rt.fail(fmt::format("'{}' is given '{}' twice", function, name));
    place = &item;
  }
  for (std::size_t i = 0; i < required; ++i)
    if (!values_[i]) rt.fail(fmt::format("'{}' needs {} arguments", function, required));
}

const value* bound_arguments::get_some(std::size_t index) const {
  const value* v = values_[index];
  return v && std::holds_alternative<none>(*v) ? nullptr : v;
}

bool bound_arguments::get_bool(std::size_t index, bool fallback) const {
  return values_[index] ? truth(*rt_, *values_[index]) : fallback;
}

std::int64_t bound_arguments::get_int(std::size_t index, std::int64_t fallback) const {
  if (!values_[index]) return fallback;
  return to_int(*rt_, *values_[index], fmt::format("an argument of '{}'", function_));
}

std::string_view bound_arguments::get_text(std::size_t index, std::string_view fallback) const {
  return values_[index] ? to_text(*rt_, *values_[index]) : fallback;
}

}  // namespace quire::jinja
