// The filters, tests, methods and global functions of templates, by name.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "models/jinja/ast.hpp"
#include "models/jinja/value.hpp"

namespace quire::jinja {

template <class Function>
struct named_function {
  std::string_view name;
  Function function;
};

std::span<const named_function<filter_function>> text_filters();
std::span<const named_function<filter_function>> list_filters();
std::span<const named_function<filter_function>> selection_filters();
std::span<const named_function<test_function>> tests();

/// Return null for a name that is unknown.
filter_function find_filter(std::string_view name);
test_function find_test(std::string_view name);

/// What Python's attribute lookup finds on a value.
struct method_lookup {
  filter_function function = nullptr;  ///< called with the object as its input
  bool forbidden = false;              ///< it exists in Python but would change the object
  bool missing = false;                ///< it exists in Python but not here
};
method_lookup find_method(const value& object, std::string_view name);

/// Returns a global function (range, namespace, ...) or nothing.
std::optional<value> find_global(runtime& rt, std::string_view name);

/// Returns the object's attribute or item as `object.name` does; undefined when it has none.
value get_attribute(runtime& rt, const value& object, std::string_view name);
/// Returns the item as `object[index]` does.
value get_item(runtime& rt, const value& object, const value& index);
/// Returns object[start:stop:step] with none for bounds that were left out.
value get_slice(runtime& rt, const value& object, const value& start, const value& stop,
                const value& step);
/// Follows a path such as "function.name" or "0", as `map(attribute=...)` does.
value get_path(runtime& rt, const value& object, const value& path);

/// Calls what can be called; fails for everything else.
value call_value(runtime& rt, const value& callee, const arguments& args);

/// Applies an operator as Python does.
value binary_operation(runtime& rt, binary_operator op, const value& a, const value& b);

/// `format % args`: printf-style formatting.
std::string format_percent(runtime& rt, std::string_view format, const value& args);
/// str.format().
std::string format_braces(runtime& rt, std::string_view format, const arguments& args);

/// The arguments of one call matched to the parameters of a builtin. Fails, naming the function,
/// when one is unknown, given twice, or one of the first `required` is missing.
class bound_arguments {
 public:
  bound_arguments(runtime& rt, std::string_view function, const arguments& given,
                  std::initializer_list<std::string_view> names, std::size_t required = 0);

  /// Returns the argument, or null when it was not given.
  const value* get(std::size_t index) const { return values_[index]; }
  /// Also treats none as not given.
  const value* get_some(std::size_t index) const;
  bool get_bool(std::size_t index, bool fallback) const;
  std::int64_t get_int(std::size_t index, std::int64_t fallback) const;
  /// str() of the argument.
  std::string_view get_text(std::size_t index, std::string_view fallback) const;

 private:
  runtime* rt_;
  std::string_view function_;
  std::vector<const value*> values_;
  std::vector<std::string_view> names_;
};

}  // namespace quire::jinja
