// The one table of configuration keys. Parsing, the environment, `config show`, the JSON Schema and
// the tests of default.yaml are all driven by it: a key is added here and nowhere else.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/options.hpp"

namespace quire {

/// Where a key's value lives in the option structs; the alternative is the key's type.
using config_field =
    std::variant<bool*, std::uint16_t*, std::uint32_t*, std::uint64_t*, float*, double*,
                 std::string*, std::vector<std::string>*, kv_type*, kv_types*>;

/// Whether any code acts on a key yet. One that is `not_yet` is refused unless it has its default.
enum class key_support : std::uint8_t { implemented, not_yet };

struct config_key {
  std::string_view name;  ///< group and key, for example "kv.defragment.threshold"
  config_field (*field)(quire_options&);
  std::string_view meaning;  ///< one line for the schema and for error messages' readers
  double min = 0;            ///< numbers only, inclusive
  double max = 0;
  std::vector<std::string_view> choices = {};  ///< texts and KV types only; empty: any text
  key_support support = key_support::implemented;
};

/// Returns all keys, grouped, in the order in which they are documented.
std::span<const config_key> config_keys();

/// Returns the key of that name, or null.
const config_key* find_config_key(std::string_view name);

/// Returns the name that the environment knows a key by: QUIRE_SERVER_PORT for server.port.
std::string environment_name(const config_key& key);

/// Returns what the key takes, for messages: "an integer", "true or false", "one of f32, f16".
std::string expectation(const config_key& key);

/// Reads `text` into the key's field. A list is split at commas. Returns what is wrong, or nothing;
/// the options are unchanged when something is.
std::optional<std::string> assign(const config_key& key, std::string_view text,
                                  quire_options& options);

/// Assigns a list key; for other keys the problem is the wrong type.
std::optional<std::string> assign(const config_key& key, std::vector<std::string> items,
                                  quire_options& options);

/// Returns the key's value as YAML that reads back as the same value.
std::string value_text(const config_key& key, const quire_options& options);

/// Returns the valid key or group that a wrong name most resembles, or an empty text.
std::string nearest_key_name(std::string_view wrong);

}  // namespace quire
