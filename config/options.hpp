// Everything that one run of quire can be configured with: the option structs of the rooms, put
// together.
#pragma once

#include <string>

#include "actors/engine_options.hpp"
#include "server/server_options.hpp"

namespace quire {

struct log_options {
  std::string level = "info";   ///< trace, debug, info, warn, error, off
  std::string format = "text";  ///< text or json
};

struct quire_options {
  /// Both KV types in one word; what it resolves to stands in engine.kv.type_k and type_v.
  kv_types kv;
  engine_options engine;
  server_options server;
  log_options log;
};

}  // namespace quire
