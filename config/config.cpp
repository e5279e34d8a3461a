#include "config/config.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "config/yaml_reader.hpp"
#include "core/check.hpp"

namespace quire {
namespace {

/// Returns QUIRE_KV_PAGEZ as kv_pagez, to be compared with key names whose dots count as
/// underscores.
std::string lower_name(std::string_view variable) {
  std::string name;
  for (const char c : variable.substr(std::string_view("QUIRE_").size()))
    name += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return name;
}

const config_key* key_of_variable(std::string_view variable) {
  for (const config_key& key : config_keys())
    if (environment_name(key) == variable) return &key;
  return nullptr;
}

/// Whether a variable is meant for us: it starts with the name of a group.
bool names_a_group(std::string_view lower) {
  for (const config_key& key : config_keys()) {
    const std::string_view group = key.name.substr(0, key.name.find('.'));
    if (lower.starts_with(group) && lower.size() > group.size() && lower[group.size()] == '_')
      return true;
  }
  return false;
}

std::string nearest_variable(std::string lower) {
  if (const std::size_t underscore = lower.find('_'); underscore != std::string::npos)
    lower[underscore] = '.';
  const std::string nearest = nearest_key_name(lower);
  const config_key* key = find_config_key(nearest);
  return key ? environment_name(*key) : std::string();
}

}  // namespace

config_builder::config_builder() : states_(config_keys().size()) {}

void config_builder::read_file(const std::filesystem::path& file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) {
    problems_.push_back(fmt::format("{}: is a directory, not a YAML file", file.string()));
    return;
  }
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream.is_open() || stream.bad()) {
    problems_.push_back(fmt::format("{}: cannot be read: {}", file.string(), std::strerror(errno)));
    return;
  }
  read_text(text, file.string());
}

void config_builder::read_text(std::string_view yaml, std::string_view name) {
  for (const yaml_item& item : read_yaml(yaml, name)) {
    if (item.key)
      assign_key(*item.key, item.value, source::file, item.place);
    else
      problems_.push_back(fmt::format("{}: {}", item.place, item.problem));
  }
}

void config_builder::read_environment(const char* const* environment) {
  for (; environment && *environment; ++environment) {
    const std::string_view entry = *environment;
    const std::size_t equals = entry.find('=');
    if (!entry.starts_with("QUIRE_") || equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals);
    const std::string value(entry.substr(equals + 1));
    if (const config_key* key = key_of_variable(name)) {
      assign_key(*key, value, source::environment, std::string(name));
      continue;
    }
    const std::string lower = lower_name(name);
    if (!names_a_group(lower)) continue;
    const std::string nearest = nearest_variable(lower);
    problems_.push_back(fmt::format("{}: names no configuration key{}", name,
                                    nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  }
}

void config_builder::set(std::string_view name, std::string_view value, std::string_view origin) {
  if (const config_key* key = find_config_key(name))
    return assign_key(*key, std::string(value), source::flag, std::string(origin));
  const std::string nearest = nearest_key_name(name);
  problems_.push_back(fmt::format("{}: {}: unknown key{}", origin, name,
                                  nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

void config_builder::assign_key(const config_key& key,
                                const std::variant<std::string, std::vector<std::string>>& value,
                                source from, const std::string& origin) {
  key_state& state = states_[static_cast<std::size_t>(&key - config_keys().data())];
  const bool applies = from >= state.from;
  // A value that a stronger source replaces is still checked, against a copy.
  quire_options unused;
  quire_options& target = applies ? options_ : unused;
  const std::optional<std::string> problem =
      std::visit([&](const auto& given) { return assign(key, given, target); }, value);
  if (problem) {
    problems_.push_back(fmt::format("{}: {}: {}", origin, key.name, *problem));
    state.wrong = true;
  } else if (applies) {
    state.from = from;
    state.origin = origin;
  }
}

config_builder::key_state& config_builder::state_of(std::string_view name) {
  return const_cast<key_state&>(std::as_const(*this).state_of(name));
}

const config_builder::key_state& config_builder::state_of(std::string_view name) const {
  const config_key* key = find_config_key(name);
  QUIRE_CHECK(key != nullptr, "a combination names a key that is not in the table");
  return states_[static_cast<std::size_t>(key - config_keys().data())];
}

std::string config_builder::combination(std::string_view first, std::string_view second,
                                        std::string_view text) const {
  const key_state& a = state_of(first);
  const key_state& b = state_of(second);
  // Blame the stronger source: the weaker one was fine before it came.
  const bool blame_first = a.from >= b.from;
  return fmt::format("{}: {}: {} ({}: {}, {}: {})", (blame_first ? a : b).origin,
                     blame_first ? first : second, text, first, a.origin, second, b.origin);
}

std::vector<std::string> config_builder::combination_problems() const {
  const engine_options& engine = options_.engine;
  std::vector<std::string> found;
  const auto forbid = [&](bool impossible, std::string_view first, std::string_view second,
                          const std::string& text) {
    if (impossible && !state_of(first).wrong && !state_of(second).wrong)
      found.push_back(combination(first, second, text));
  };
  forbid(engine.kv.min_mib > engine.kv.max_mib, "kv.min_mib", "kv.max_mib",
         fmt::format("min_mib {} is more than max_mib {}", engine.kv.min_mib, engine.kv.max_mib));
  forbid(options_.server.tls_cert.empty() != options_.server.tls_key.empty(), "server.tls_cert",
         "server.tls_key", "tls_cert and tls_key are only of use together");
  forbid(engine.scheduler.max_queued_tokens < engine.model.context_tokens,
         "scheduler.max_queued_tokens", "model.context_tokens",
         fmt::format("a queue of {} tokens can never take a prompt of {} tokens",
                     engine.scheduler.max_queued_tokens, engine.model.context_tokens));
  forbid(engine.model.context_tokens != 0 && engine.kv.pages != 0 &&
             std::uint64_t{engine.kv.pages} * engine.kv.page_tokens < engine.model.context_tokens,
         "model.context_tokens", "kv.pages",
         fmt::format("{} pages of {} tokens cannot hold one sequence of {} tokens", engine.kv.pages,
                     engine.kv.page_tokens, engine.model.context_tokens));
  return found;
}

// Makes kv.type, kv.type_k and kv.type_v say the same. The stronger source wins; within one source
// type_k and type_v say more than type, and all three must agree.
void config_builder::resolve_kv_types() {
  kv_options& kv = options_.engine.kv;
  key_state& both = state_of("kv.type");
  key_state& k = state_of("kv.type_k");
  key_state& v = state_of("kv.type_v");
  const auto follows = [&](const key_state& own) {
    return both.from > own.from && !both.wrong && !own.wrong;
  };
  const bool said_thrice = both.from != source::fallback && both.from == k.from &&
                           both.from == v.from && !both.wrong && !k.wrong && !v.wrong;
  if (said_thrice && options_.kv != kv_types{kv.type_k, kv.type_v})
    problems_.push_back(
        fmt::format("{}: kv.type: {} is keys in {} and values in {}, but type_k ({}) and type_v "
                    "({}) say {} and "
                    "{}; leave out either type or the other two",
                    both.origin, kv_types_name(options_.kv), kv_type_name(options_.kv.k),
                    kv_type_name(options_.kv.v), k.origin, v.origin, kv_type_name(kv.type_k),
                    kv_type_name(kv.type_v)));
  if (follows(k)) {
    kv.type_k = options_.kv.k;
    k.origin = both.origin;
  }
  if (follows(v)) {
    kv.type_v = options_.kv.v;
    v.origin = both.origin;
  }
  const kv_types resolved{kv.type_k, kv.type_v};
  if (resolved != options_.kv && !both.wrong) both.origin = (k.from >= v.from ? k : v).origin;
  options_.kv = resolved;
}

// A small max_mib alone is no contradiction to the default of min_mib.
void config_builder::resolve_kv_minimum() {
  key_state& minimum = state_of("kv.min_mib");
  kv_options& kv = options_.engine.kv;
  if (minimum.from != source::fallback || kv.min_mib <= kv.max_mib) return;
  kv.min_mib = kv.max_mib;
  minimum.origin = state_of("kv.max_mib").origin;
}

result<loaded_config> config_builder::finish() const {
  config_builder resolved = *this;
  resolved.resolve_kv_types();
  resolved.resolve_kv_minimum();
  return resolved.finish_resolved();
}

result<loaded_config> config_builder::finish_resolved() const {
  std::vector<std::string> problems = problems_;
  for (std::string& problem : combination_problems()) problems.push_back(std::move(problem));
  if (!problems.empty())
    return fail(errc::invalid_config, fmt::format("{}", fmt::join(problems, "\n")));
  loaded_config config{options_, {}};
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const config_key& key = config_keys()[i];
    config.values.push_back({key.name, value_text(key, options_), states_[i].origin});
  }
  return config;
}

}  // namespace quire
