// Options of the HTTP server, with the defaults that config/default.yaml documents.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quire {

struct server_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;              ///< 0: any free port
  std::string api_keys_file;              ///< one key per line; empty: no key is asked for
  std::string admin_key_file;             ///< empty: the admin routes refuse everybody
  std::vector<std::string> cors_origins;  ///< origins that browsers may call from; "*": any
  std::uint64_t max_body_bytes = 8388608;
  std::uint32_t request_timeout_ms = 600000;
  std::uint32_t drain_timeout_ms = 30000;  ///< how long running requests may finish at shutdown
  std::string tls_cert;
  std::string tls_key;
};

}  // namespace quire
