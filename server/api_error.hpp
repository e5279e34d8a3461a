// Errors as HTTP clients see them: OpenAI's error object and the status it travels with.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "core/error.hpp"

namespace quire {

struct api_error {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::optional<std::string> param;  ///< the field at fault, for example "messages[0].role"
  std::optional<std::string> code;
  std::optional<std::uint64_t> retry_after_ms;
};

template <class T>
using api_result = tl::expected<T, api_error>;

/// Returns {"error":{"message","type","param","code"}}: always these four keys.
nlohmann::ordered_json to_json(const api_error& failure);

/// Makes a 400 that says why the value of a field cannot be used.
api_error invalid_value(std::string param, std::string message);

/// Makes a 400 for a field that is understood but not implemented.
api_error unsupported_parameter(std::string param, std::string message);

/// Maps an engine error. `prompt_field` is what a context overflow blames ("messages" or "prompt").
/// Messages of internal errors are replaced: they are for the log, the client gets the request id.
api_error to_api_error(const error& why, std::string_view prompt_field,
                       std::string_view request_id);

}  // namespace quire
