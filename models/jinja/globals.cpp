// The global functions that transformers' templates can call.
#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "models/jinja/builtins.hpp"
#include "models/jinja/text.hpp"

namespace quire::jinja {
namespace {

using global_function = value (*)(runtime&, const arguments&);

value make_range(runtime& rt, const arguments& args) {
  const bound_arguments bound(rt, "range", args, {"", "", ""}, 1);
  std::int64_t start = 0;
  std::int64_t stop = bound.get_int(0, 0);
  const std::int64_t step = bound.get_int(2, 1);
  if (bound.get(1)) start = std::exchange(stop, bound.get_int(1, 0));
  if (step == 0) rt.fail("the step of range() cannot be zero");
  // Lengths are compared as doubles, whose precision suffices for the limit and which cannot
  // overflow.
  const double count =
      (static_cast<double>(stop) - static_cast<double>(start)) / static_cast<double>(step);
  if (count > static_cast<double>(rt.limits().range_length))
    rt.fail_limit(fmt::format("asks for a range of more than {} items", rt.limits().range_length));
  return rt.make_range(start, stop, step);
}

/// dict(): of a mapping or of pairs, and of keywords.
void fill(runtime& rt, mapping& map, std::string_view function, const arguments& args) {
  const arguments positional{args.positional, {}};
  const bound_arguments bound(rt, function, positional, {""});
  const auto add = [&](const value& key, const value& item) {
    check_key(rt, key);
    rt.charge(2 * sizeof(value));
    rt.step(1 + map.items.size() / 8);
    map.set(key, item);
  };
  if (const value* source = bound.get(0)) {
    if (const auto* other = std::get_if<const mapping*>(source)) {
      for (const auto& [key, item] : (*other)->items) add(key, item);
    } else {
      for (const value& pair : iterate(rt, *source)) {
        const std::vector<value> parts = iterate(rt, pair);
        if (parts.size() != 2) rt.fail(fmt::format("{}() takes pairs", function));
        add(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, item] : args.named) add(text{name}, item);
}

value make_dict(runtime& rt, const arguments& args) {
  mapping* const map = rt.make_mapping();
  fill(rt, *map, "dict", args);
  return map;
}

value make_namespace(runtime& rt, const arguments& args) {
  space* const made = rt.make<space>();
  fill(rt, made->attributes, "namespace", args);
  return made;
}

value make_cycler(runtime& rt, const arguments& args) {
  if (args.positional.empty() || !args.named.empty()) rt.fail("cycler() takes one or more items");
  struct cycle : heap_object {
    std::vector<value> items;
    std::size_t at = 0;
  };
  cycle* const state = rt.make<cycle>();
  rt.charge(args.positional.size() * sizeof(value));
  state->items = args.positional;
  callable* const made = rt.make<callable>();
  made->name = "cycler";
  made->invoke = [](runtime& r, const arguments&) -> value { r.fail("a cycler cannot be called"); };
  const auto move_to = [state, made](std::size_t at) {
    state->at = at;
    made->attributes[0].second = state->items[at];
  };
  const callable* const next =
      rt.make_callable("next", [state, move_to](runtime&, const arguments&) -> value {
        const value current = state->items[state->at];
        move_to((state->at + 1) % state->items.size());
        return current;
      });
  const callable* const reset =
      rt.make_callable("reset", [move_to](runtime&, const arguments&) -> value {
        move_to(0);
        return none{};
      });
  made->attributes = {{"current", state->items[0]}, {"next", next}, {"reset", reset}};
  return made;
}

value make_joiner(runtime& rt, const arguments& args) {
  const bound_arguments bound(rt, "joiner", args, {"sep"});
  struct joiner : heap_object {
    bool used = false;
  };
  joiner* const state = rt.make<joiner>();
  const std::string_view separator = bound.get_text(0, ", ");
  return rt.make_callable("joiner", [state, separator](runtime&, const arguments&) -> value {
    return std::exchange(state->used, true) ? text{separator} : text{};
  });
}

value raise_exception(runtime& rt, const arguments& args) {
  const bound_arguments bound(rt, "raise_exception", args, {"message"}, 1);
  rt.fail(std::string(bound.get_text(0, "")));
}

value format_now(runtime& rt, const arguments& args) {
  const bound_arguments bound(rt, "strftime_now", args, {"format"}, 1);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  const std::time_t seconds = static_cast<std::time_t>(micros / 1'000'000);
  std::tm local{};
  localtime_r(&seconds, &local);
  // %f is Python's own; a mark at the end tells an empty result from a buffer that is too small.
  const std::string format = replace(bound.get_text(0, ""), "%f",
                                     fmt::format("{:06}", micros % 1'000'000), std::string::npos) +
                             "|";
  std::string formatted(64 + 32 * format.size(), '\0');
  if (formatted.size() > 1u << 20) rt.fail_limit("passes too long a format to strftime_now()");
  formatted.resize(std::strftime(formatted.data(), formatted.size(), format.c_str(), &local));
  if (formatted.empty()) rt.fail("strftime_now() cannot use this format");
  formatted.pop_back();
  return rt.make_text(std::move(formatted));
}

value no_lipsum(runtime& rt, const arguments&) {
  rt.fail("lipsum() is not supported", errc::unsupported);
}

constexpr named_function<global_function> table[] = {
    {"range", make_range},   {"dict", make_dict},
    {"cycler", make_cycler}, {"namespace", make_namespace},
    {"joiner", make_joiner}, {"raise_exception", raise_exception},
    {"lipsum", no_lipsum},   {"strftime_now", format_now},
};

}  // namespace

std::optional<value> find_global(runtime& rt, std::string_view name) {
  for (const auto& entry : table)
    if (entry.name == name)
      return rt.make_callable(
          entry.name,
          [function = entry.function](runtime& r, const arguments& a) { return function(r, a); });
  return {};
}

}  // namespace quire::jinja
