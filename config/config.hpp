// Resolves the configuration of one run: defaults, then a YAML file, then QUIRE_* variables, then
// flags.
//
//   quire::config_builder builder;
//   builder.read_file("quire.yaml");
//   builder.read_environment(environ);
//   builder.set("server.port", "9090", "--port");
//   quire::result<quire::loaded_config> config = builder.finish();
//
// Every problem of every source is found in one run, each with its place and the nearest valid
// name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/keys.hpp"
#include "config/options.hpp"
#include "core/error.hpp"

namespace quire {

/// One resolved value and where it came from.
struct config_value {
  std::string_view key;  ///< dotted name
  std::string text;      ///< as YAML
  std::string origin;    ///< "default", "quire.yaml:3:9", "QUIRE_KV_PAGES", "--port"
};

struct loaded_config {
  quire_options options;
  std::vector<config_value> values;  ///< every key, in the table's order
};

class config_builder {
 public:
  config_builder();

  /// Reads a YAML file. That it cannot be opened is a problem like any other.
  void read_file(const std::filesystem::path& file);
  /// Reads YAML from memory; `name` stands for the file in messages.
  void read_text(std::string_view yaml, std::string_view name);
  /// Reads the QUIRE_* variables of a null-terminated array of NAME=value, as `environ` is. QUIRE_
  /// variables that resemble no key (QUIRE_ISA, QUIRE_CACHE) belong to others and are left alone.
  void read_environment(const char* const* environment);
  /// Sets one key from a flag, whose name is the origin. Lists are separated by commas.
  void set(std::string_view key, std::string_view value, std::string_view origin);

  /// Returns the resolved configuration. The order of the calls above does not matter between
  /// sources; within one the last value wins. Errors: invalid_config, the message holding every
  /// problem, one per line.
  result<loaded_config> finish() const;

 private:
  enum class source : std::uint8_t { fallback, file, environment, flag };
  struct key_state {
    source from = source::fallback;
    std::string origin = "default";
    bool wrong = false;  // a value was refused, so combinations with it say nothing
  };

  void assign_key(const config_key& key,
                  const std::variant<std::string, std::vector<std::string>>& value, source from,
                  const std::string& origin);
  std::string combination(std::string_view first, std::string_view second,
                          std::string_view text) const;
  std::vector<std::string> combination_problems() const;
  void resolve_kv_types();
  void resolve_kv_minimum();
  result<loaded_config> finish_resolved() const;
  const key_state& state_of(std::string_view key) const;
  key_state& state_of(std::string_view key);

  quire_options options_;
  std::vector<key_state> states_;  // parallel to config_keys()
  std::vector<std::string> problems_;
};

/// Returns the resolved configuration as YAML with the origin of each value in a comment.
std::string show_config(const loaded_config& config);

/// Returns a JSON Schema (draft 2020-12) of the YAML file, for editors.
std::string config_schema();

}  // namespace quire
