#include "server/http_api.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "server/json_body.hpp"
#include "server/page.hpp"

namespace quire {
namespace {

struct route {
  std::string_view method;
  std::string_view path;  // a trailing "*" matches one or more characters
  http_api::answer (http_api::*handle)(const http_request&);
  bool quick;  // answers from memory
};

constexpr route routes[] = {
    {"GET", "/", &http_api::page, true},
    {"GET", "/health", &http_api::health, true},
    {"GET", "/ready", &http_api::ready, true},
    {"GET", "/v1/models", &http_api::list_models, true},
    {"GET", "/v1/models/*", &http_api::get_model, true},
    {"GET", "/v1/engine/status", &http_api::engine_state, false},
    {"POST", "/v1/engine/check", &http_api::check_engine, false},
    {"POST", "/v1/chat/completions", &http_api::chat, false},
    {"POST", "/v1/completions", &http_api::completions, false},
    {"POST", "/v1/embeddings", &http_api::embeddings, true},
    {"POST", "/tokenize", &http_api::tokenize, false},
    {"POST", "/detokenize", &http_api::detokenize, false},
    {"POST", "/apply-template", &http_api::apply_template, false},
};

bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return pattern == path;
  pattern.remove_suffix(1);
  return path.size() > pattern.size() && path.starts_with(pattern);
}

// HEAD is GET without the body, which the connection leaves out.
std::string_view routed_method(const http_request& request) {
  return request.method == "HEAD" ? std::string_view("GET") : std::string_view(request.method);
}

const route* find_route(const http_request& request) {
  for (const auto& candidate : routes)
    if (matches(candidate.path, request.path) && candidate.method == routed_method(request))
      return &candidate;
  return nullptr;
}

// The methods of a path, for Allow; empty when there is no such path.
std::string allowed_methods(std::string_view path) {
  std::string allowed;
  for (const auto& candidate : routes) {
    if (!matches(candidate.path, path)) continue;
    if (!allowed.empty()) allowed += ", ";
    allowed += candidate.method == "GET" ? "GET, HEAD" : candidate.method;
  }
  return allowed.empty() ? allowed : allowed + ", OPTIONS";
}

api_error plain_error(int status, std::string type, std::string code, std::string message) {
  api_error failure;
  failure.status = status;
  failure.type = std::move(type);
  failure.code = std::move(code);
  failure.message = std::move(message);
  return failure;
}

// A form's type counts too: it is what `curl -d` sends when nobody names one, and the body is
// parsed as JSON all the same.
bool is_json(std::string_view content_type) {
  std::string kind(content_type.substr(0, content_type.find(';')));
  kind.erase(std::remove(kind.begin(), kind.end(), ' '), kind.end());
  std::transform(kind.begin(), kind.end(), kind.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return kind.empty() || kind == "application/json" || kind == "text/json" ||
         kind == "application/x-www-form-urlencoded" || kind.ends_with("+json");
}

http_reply no_route(const http_request& request) {
  auto allowed = allowed_methods(request.path);
  if (request.path == "*") allowed = "GET, HEAD, POST, OPTIONS";
  if (allowed.empty())
    return error_reply(
        plain_error(404, "not_found_error", "unknown_route",
                    fmt::format("There is no route {} {}.", request.method, request.path)));
  if (request.method == "OPTIONS") {
    http_reply reply;
    reply.status = 204;
    reply.headers.emplace_back("Allow", allowed);
    return reply;
  }
  auto reply = error_reply(plain_error(
      405, "invalid_request_error", "method_not_allowed",
      fmt::format("{} does not take {}; it takes {}.", request.path, request.method, allowed)));
  reply.headers.emplace_back("Allow", allowed);
  return reply;
}

}  // namespace

http_api::http_api(const server_options& options, engine& served_engine, served_model served)
    : options_(&options),
      engine_(&served_engine),
      served_(std::move(served)),
      started_at_(std::chrono::duration_cast<std::chrono::seconds>(
                      std::chrono::system_clock::now().time_since_epoch())
                      .count()) {}

bool http_api::is_quick(const http_request& request) {
  const auto* found = find_route(request);
  return found == nullptr || found->quick;
}

http_api::answer http_api::handle(const http_request& request) {
  try {
    return dispatch(request);
  } catch (const std::exception& failure) {
    spdlog::error("{} {} failed, request {}: {}", request.method, request.path, request.request_id,
                  failure.what());
    return error_reply(
        to_api_error(error{errc::internal, failure.what(), {}}, "", request.request_id));
  }
}

http_api::answer http_api::dispatch(const http_request& request) {
  const auto* found = find_route(request);
  if (found == nullptr) return no_route(request);
  if (request.method == "POST" && request.content_type && !is_json(*request.content_type))
    return error_reply(
        plain_error(415, "invalid_request_error", "unsupported_media_type",
                    fmt::format("The content type must be application/json, not '{}'.",
                                *request.content_type)));
  return (this->*found->handle)(request);
}

bool http_api::allows_origin(std::string_view origin) const {
  const auto& allowed = options_->cors_origins;
  return !origin.empty() && std::any_of(allowed.begin(), allowed.end(), [&](const auto& entry) {
    return entry == "*" || entry == origin;
  });
}

void http_api::decorate(http_reply& reply, const http_request& request) const {
  if (!options_->cors_origins.empty()) reply.headers.emplace_back("Vary", "Origin");
  if (!allows_origin(request.origin)) return;
  reply.headers.emplace_back("Access-Control-Allow-Origin", request.origin);
  reply.headers.emplace_back("Access-Control-Expose-Headers",
                             "x-request-id, Retry-After, retry-after-ms");
  if (request.method != "OPTIONS") return;
  reply.headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
  reply.headers.emplace_back("Access-Control-Allow-Headers",
                             "authorization, content-type, x-request-id");
  reply.headers.emplace_back("Access-Control-Max-Age", "600");
}

http_api::answer http_api::page(const http_request&) {
  return page_reply();
}

http_api::answer http_api::generate(const http_request& request, api_kind kind) {
  if (draining_)
    return error_reply(to_api_error(
        error{errc::unavailable, "The server is shutting down; try again.", {}}, "", ""));
  auto body = parse_json_body(request.body);
  if (!body) return error_reply(body.error());
  const call_limits limits{engine_, &served_};
  auto call =
      kind == api_kind::chat ? read_chat_call(*body, limits) : read_text_call(*body, limits);
  if (!call) return error_reply(call.error());
  return *std::move(call);
}

http_api::answer http_api::chat(const http_request& request) {
  return generate(request, api_kind::chat);
}

http_api::answer http_api::completions(const http_request& request) {
  return generate(request, api_kind::text);
}

http_api::answer http_api::embeddings(const http_request&) {
  auto failure = plain_error(400, "invalid_request_error", "unsupported_parameter",
                             "/v1/embeddings is not supported by this server yet.");
  return error_reply(failure);
}

}  // namespace quire
