// The flags that every command with an engine shares, and the way from them to a loaded engine.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "actors/engine.hpp"
#include "core/error.hpp"

namespace quire::cli {

struct engine_flags {
  std::string model;
  std::string kv = "q8";      ///< types of keys and values, as parse_kv_types reads them
  std::uint32_t kv_mib = 0;   ///< 0: the default
  std::uint32_t threads = 0;  ///< 0: one per core
  std::string isa = "auto";
  bool batch_invariant = false;
  std::uint32_t context_tokens = 0;  ///< 0: the model's own

  void add_to(CLI::App& command);
  /// Returns the options of an engine for them. Errors: invalid_argument (an unknown KV type).
  result<engine_options> to_options() const;
};

/// Finds the model, loads it and starts the engine. Errors: those of resolve_model and
/// engine::load.
result<std::unique_ptr<engine>> load_engine(engine_options options);

}  // namespace quire::cli
