// The routes: which handler answers which method and path, and the rules that hold for all of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "actors/engine.hpp"
#include "server/http_message.hpp"
#include "server/http_server.hpp"
#include "server/openai_request.hpp"

namespace quire {

/// Returns the key that a file holds. Errors: io_error, invalid_argument (empty, or more than a
/// word).
result<std::string> read_admin_key(const std::string& file);

class http_api {
 public:
  /// `served_engine` outlives the api.
  http_api(const server_options& options, engine& served_engine, served_model served);

  /// Either the whole reply, or a generation for the connection to run.
  using answer = std::variant<http_reply, openai_call>;

  /// Returns the answer to a request; anything thrown inside becomes a 500. Thread-safe. May block
  /// for a step of the engine, or for as long as a large body takes to parse, unless
  /// is_quick(request).
  answer handle(const http_request& request);
  /// Whether handle is sure not to block.
  static bool is_quick(const http_request& request);

  /// Adds what every reply to this request carries (CORS).
  void decorate(http_reply& reply, const http_request& request) const;

  /// Opens the admin routes to who has this key; without one they refuse everybody. Before the
  /// first request.
  void set_admin_key(std::string key) { admin_key_ = std::move(key); }
  /// From now on /ready answers 503 and generations are refused.
  void set_draining() { draining_ = true; }
  engine& served_engine() const { return *engine_; }
  /// Seconds since 1970 when the api was made.
  std::int64_t started_at() const { return started_at_; }

  // The handlers.
  answer health(const http_request& request);
  answer ready(const http_request& request);
  answer list_models(const http_request& request);
  answer get_model(const http_request& request);
  answer engine_state(const http_request& request);
  answer check_engine(const http_request& request);
  answer page(const http_request& request);
  answer chat(const http_request& request);
  answer completions(const http_request& request);
  answer embeddings(const http_request& request);
  answer tokenize(const http_request& request);
  answer detokenize(const http_request& request);
  answer apply_template(const http_request& request);

 private:
  answer dispatch(const http_request& request);
  answer generate(const http_request& request, api_kind kind);
  nlohmann::ordered_json describe_model(const std::string& name) const;
  bool allows_origin(std::string_view origin) const;
  std::optional<http_reply> refuse_stranger(const http_request& request) const;

  const server_options* options_;
  engine* engine_;
  served_model served_;
  std::int64_t started_at_;
  std::string admin_key_;
  std::atomic<bool> draining_ = false;
};

}  // namespace quire
