// The HTTP surface over an engine: OpenAI's endpoints, status, and the page. One io thread moves
// bytes, two workers parse, render and ask the engine for its status, so that no stream waits for
// them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "actors/engine.hpp"
#include "core/error.hpp"
#include "models/sampling.hpp"
#include "server/server_options.hpp"

namespace quire {

/// What the server must know of the model besides its card.
struct served_model {
  std::vector<std::string> aliases;  ///< further names that clients may use
  sampling_params sampling;          ///< for fields that a request leaves out
};

class http_server {
 public:
  /// Listens and serves from its own threads. `served_engine` outlives the server. Errors: io_error
  /// (the address cannot be listened on), invalid_argument, unsupported (an option that is not
  /// implemented: TLS, key files).
  static result<std::unique_ptr<http_server>> start(const server_options& options,
                                                    engine& served_engine,
                                                    served_model served = {});
  /// Stops.
  ~http_server();
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;

  /// Returns the port that is listened on, also when options.port was 0.
  std::uint16_t port() const noexcept;

  /// Turns new work away (/ready answers 503), lets running requests finish for at most
  /// options.drain_timeout_ms, then stops. Returns whether all finished by themselves. Blocks.
  bool drain();

  /// Closes every connection, cancels what they were waiting for, and joins the threads.
  /// Idempotent.
  void stop();

 private:
  struct impl;
  explicit http_server(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

}  // namespace quire
