// The values of a template being rendered, and the arena that owns them.
//
// A value is small and trivially copied; texts, lists and objects belong to the render's arena and
// live until it ends. So there are no cycles to leak, and the arena's size limit bounds a hostile
// template's memory. Nothing but namespaces and cyclers changes after it was made, as in Jinja's
// immutable sandbox.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.hpp"

namespace quire::jinja {

struct sequence;
struct mapping;
struct space;
struct loop_state;
struct callable;

/// What an unknown name or attribute evaluates to: prints as nothing, most uses of it are errors.
struct undefined {
  std::string_view name;
  std::string_view owner = {};  ///< type of the object that lacks the attribute; empty: a variable
  bool unsafe = false;          ///< it exists in Python but the sandbox forbids it
};
struct none {};
struct text {
  std::string_view bytes;
  bool safe = false;  ///< marked by `safe` or `escape`: joining escapes its neighbours
};

using value = std::variant<undefined, none, bool, std::int64_t, double, text, const sequence*,
                           const mapping*, space*, loop_state*, const callable*>;

/// An error inside the interpreter; caught in chat_template.cpp and nowhere else.
struct failure {
  errc code;
  std::string message;
  std::size_t offset;  ///< in the template's source
};

/// Base of what the arena owns.
struct heap_object {
  heap_object() = default;
  heap_object(const heap_object&) = delete;
  heap_object& operator=(const heap_object&) = delete;
  virtual ~heap_object() = default;
};

/// How a sequence prints and what it allows; `generator` stands for all of Python's lazy iterators.
enum class sequence_kind : std::uint8_t {
  list,
  tuple,
  range,
  generator,
  dict_keys,
  dict_values,
  dict_items
};

struct sequence : heap_object {
  sequence_kind kind = sequence_kind::list;
  std::vector<value> items;
  std::string_view shown;         ///< ranges only: what str() gives
  mutable bool consumed = false;  ///< generators only: they can be read once
};

struct mapping : heap_object {
  std::vector<std::pair<value, value>> items;  ///< in the order of insertion
  const value* find(const value& key) const;
  /// The key must be absent, or the mapping still under construction.
  void set(const value& key, const value& item);
};

/// namespace(): the only thing a template can assign attributes to.
struct space : heap_object {
  mapping attributes;
};

/// `loop` inside of a for.
struct loop_state : heap_object {
  const sequence* items = nullptr;
  std::size_t index = 0;  ///< from 0
  bool has_changed_value = false;
  std::vector<value> changed_value;  ///< arguments of the last loop.changed()
};

struct arguments {
  std::vector<value> positional;
  std::vector<std::pair<std::string_view, value>> named;
};

class runtime;

/// A macro, a global function or a method bound to its object.
struct callable : heap_object {
  std::string_view name;
  std::function<value(runtime&, const arguments&)> invoke;
  std::vector<std::pair<std::string_view, value>> attributes;  ///< a macro's name and arguments
};

/// Bounds on what one render may take.
struct render_limits {
  std::uint64_t steps = 20'000'000;      ///< evaluations, or 16 bytes of text handled each
  std::size_t arena_bytes = 256u << 20;  ///< all texts and objects made
  std::size_t output_bytes = 16u << 20;
  std::uint32_t depth = 1000;           ///< nested evaluations, and nesting of data
  std::int64_t range_length = 100'000;  ///< that of Jinja's sandbox
};

/// One render's arena, limits and position; every operation on values takes it.
class runtime {
 public:
  explicit runtime(render_limits limits = {}) : limits_(limits) {}

  const render_limits& limits() const noexcept { return limits_; }

  /// Counts work; fails beyond the limit.
  void step(std::uint64_t count = 1) {
    if ((steps_ += count) > limits_.steps) fail_limit("takes too many steps");
  }
  /// Counts work on so many bytes of text.
  void step_bytes(std::size_t bytes) { step(bytes / 16); }

  text make_text(std::string bytes, bool safe = false);
  const sequence* make_sequence(sequence_kind kind, std::vector<value> items);
  const sequence* make_range(std::int64_t start, std::int64_t stop, std::int64_t step);
  const sequence* make_list(std::vector<value> items) {
    return make_sequence(sequence_kind::list, std::move(items));
  }
  mapping* make_mapping();
  const callable* make_callable(std::string_view name,
                                std::function<value(runtime&, const arguments&)> invoke);
  template <class T>
  T* make() {
    auto object = std::make_unique<T>();
    T* const made = object.get();
    charge(sizeof(T));
    objects_.push_back(std::move(object));
    return made;
  }
  /// Converts JSON; texts refer to the JSON's own, which must outlive the runtime.
  value from_json(const nlohmann::ordered_json& json, std::uint32_t depth = 0);

  /// Counts memory that the arena will hold.
  void charge(std::size_t bytes) {
    if ((bytes_ += bytes) > limits_.arena_bytes) fail_limit("takes too much memory");
  }

  [[noreturn]] void fail(std::string message, errc code = errc::invalid_argument) const;
  [[noreturn]] void fail_limit(std::string_view what) const;

  std::size_t offset = 0;  ///< in the source, of what is being evaluated; for errors

 private:
  render_limits limits_;
  std::uint64_t steps_ = 0;
  std::size_t bytes_ = 0;
  std::deque<std::string> texts_;
  std::vector<std::unique_ptr<heap_object>> objects_;
};

/// Returns Python's name of the value's type, for errors.
std::string_view type_name(const value& v);
bool is_undefined(const value& v);
/// Python's truth.
bool truth(runtime& rt, const value& v);
/// Python's ==.
bool equal(runtime& rt, const value& a, const value& b, std::uint32_t depth = 0);
/// Python's <; fails for types that have no order.
bool less(runtime& rt, const value& a, const value& b, std::uint32_t depth = 0);
/// Python's `in`.
bool contains(runtime& rt, const value& container, const value& item);
/// len(); fails for what has none.
std::int64_t length(runtime& rt, const value& v);
/// The items that a for loop sees: of a mapping its keys, of a text its code points.
std::vector<value> iterate(runtime& rt, const value& v);
/// The same as a sequence: the value itself where it is one.
const sequence* iterable(runtime& rt, const value& v);
/// Fails unless the value can be a key of a mapping.
void check_key(runtime& rt, const value& key);

/// The int of an int or bool, or a failure that names `what`.
std::int64_t to_int(runtime& rt, const value& v, std::string_view what);
/// Whether the value is an int, float or bool, and its value as a double.
bool is_number(const value& v);
double to_double(const value& v);
/// Whether the value is an int or bool, which are one in arithmetic; then `number` is set.
bool is_integral(const value& v, std::int64_t& number);

/// str(): what printing shows. Texts that are already in the arena are not copied.
std::string_view to_text(runtime& rt, const value& v);
/// Appends str() of a value.
void append_text(runtime& rt, std::string& out, const value& v);
/// Appends repr() of a value.
void append_repr(runtime& rt, std::string& out, const value& v, std::uint32_t depth = 0);

struct json_style {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// Appends json.dumps() of a value; fails for what JSON cannot hold.
void append_json(runtime& rt, std::string& out, const value& v, const json_style& style,
                 std::uint32_t depth = 0);

}  // namespace quire::jinja
