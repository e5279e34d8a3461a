// Requests and replies as plain data, so that routes and tests need no sockets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api_error.hpp"

namespace quire {

struct http_request {
  std::string method;  ///< as sent: "GET", "POST", ...
  std::string path;    ///< of the target, without query, not decoded
  std::optional<std::string> content_type;
  std::string authorization;  ///< the header's value, or empty
  std::string origin;         ///< the browser's Origin, or empty
  std::string request_id;     ///< the client's x-request-id, or made
  std::string body;
  bool keep_alive = true;
  bool http_1_0 = false;  ///< the client knows no chunked bodies
};

struct http_reply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

/// Returns a reply with a JSON body.
http_reply json_reply(const nlohmann::ordered_json& value);

/// Returns the reply for an error, Retry-After included.
http_reply error_reply(const api_error& failure);

/// Returns the path of a request target: the query and, in absolute form, scheme and host are cut
/// off.
std::string_view path_of(std::string_view target);

/// Returns the text with %XX decoded; a malformed escape stays as it is.
std::string percent_decode(std::string_view text);

/// Returns 32 random hexadecimal digits.
std::string random_id();

/// Returns the client's id when it is usable in a header and a log line, else a new one.
std::string choose_request_id(std::string_view given);

/// Returns head and body as sent. For HEAD the length is told and the body left out.
std::string to_wire(const http_reply& reply, const http_request& request, bool keep_alive);

/// Returns the head of a reply whose body is a stream of events.
std::string stream_head(const http_reply& reply, const http_request& request, bool keep_alive);

/// Appends bytes as one chunk of a chunked body; an empty piece appends nothing.
void append_chunk(std::string& out, std::string_view bytes);

/// The chunk that ends a chunked body.
inline constexpr std::string_view last_chunk = "0\r\n\r\n";

}  // namespace quire
