#include "server/api_error.hpp"

#include <fmt/format.h>

#include <utility>

namespace quire {
namespace {

nlohmann::ordered_json or_null(const std::optional<std::string>& text) {
  if (!text) return nullptr;
  return *text;
}

api_error refused(int status, std::string type, std::string message, std::string code) {
  api_error failure;
  failure.status = status;
  failure.type = std::move(type);
  failure.message = std::move(message);
  failure.code = std::move(code);
  return failure;
}

api_error context_overflow(const error& why, std::string_view prompt_field) {
  auto failure = refused(400, "invalid_request_error", why.message, "context_length_exceeded");
  if (why.numbers[0] != 0)
    failure.message = fmt::format(
        "The maximum context length is {} tokens, but the request needs {} tokens (prompt plus "
        "output). Shorten the prompt or ask for fewer tokens.",
        why.numbers[1], why.numbers[0]);
  failure.param = std::string(prompt_field);
  return failure;
}

}  // namespace

nlohmann::ordered_json to_json(const api_error& failure) {
  return {{"error",
           {{"message", failure.message},
            {"type", failure.type},
            {"param", or_null(failure.param)},
            {"code", or_null(failure.code)}}}};
}

api_error invalid_value(std::string param, std::string message) {
  auto failure = refused(400, "invalid_request_error", std::move(message), "invalid_value");
  failure.param = std::move(param);
  return failure;
}

api_error unsupported_parameter(std::string param, std::string message) {
  auto failure = refused(400, "invalid_request_error", std::move(message), "unsupported_parameter");
  failure.param = std::move(param);
  return failure;
}

api_error to_api_error(const error& why, std::string_view prompt_field,
                       std::string_view request_id) {
  const int status = http_status(why.code);
  switch (why.code) {
    case errc::invalid_argument:
      return refused(status, "invalid_request_error", why.message, "invalid_value");
    case errc::unsupported:
      return refused(status, "invalid_request_error", why.message, "unsupported_parameter");
    case errc::context_length_exceeded:
      return context_overflow(why, prompt_field);
    case errc::queue_full: {
      auto failure = refused(status, "rate_limit_error", why.message, "queue_full");
      failure.retry_after_ms = why.numbers[0] != 0 ? why.numbers[0] : 1000;
      return failure;
    }
    case errc::not_found:
      return refused(status, "not_found_error", why.message, "not_found");
    case errc::deadline_exceeded:
    case errc::cancelled:
    case errc::unavailable:
      return refused(status, "server_error", why.message, std::string(errc_name(why.code)));
    default:
      return refused(
          500, "server_error",
          fmt::format("Internal error. The server's log has more under request id {}.", request_id),
          "internal_error");
  }
}

}  // namespace quire
