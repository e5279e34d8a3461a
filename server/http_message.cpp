#include "server/http_message.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <random>

#include "server/sse.hpp"

namespace quire {
namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

std::string head_of(const http_reply& reply, const http_request& request, bool keep_alive) {
  std::string head = fmt::format(
      "HTTP/1.1 {} {}\r\nDate: {:%a, %d %b %Y %H:%M:%S} GMT\r\nServer: quire\r\nx-request-id: "
      "{}\r\n",
      reply.status, reason_phrase(reply.status), fmt::gmtime(std::time(nullptr)),
      request.request_id);
  if (reply.status != 204) head += fmt::format("Content-Type: {}\r\n", reply.content_type);
  for (const auto& [name, value] : reply.headers) head += fmt::format("{}: {}\r\n", name, value);
  if (!keep_alive)
    head += "Connection: close\r\n";
  else if (request.http_1_0)
    head += "Connection: keep-alive\r\n";
  return head;
}

}  // namespace

http_reply json_reply(const nlohmann::ordered_json& value) {
  http_reply reply;
  reply.body = dump_json(value);
  return reply;
}

http_reply error_reply(const api_error& failure) {
  auto reply = json_reply(to_json(failure));
  reply.status = failure.status;
  if (failure.retry_after_ms) {
    const auto milliseconds = *failure.retry_after_ms;
    reply.headers.emplace_back("Retry-After", std::to_string((milliseconds + 999) / 1000));
    reply.headers.emplace_back("retry-after-ms", std::to_string(milliseconds));
  }
  return reply;
}

std::string_view path_of(std::string_view target) {
  if (const auto scheme = target.find("://");
      scheme != std::string_view::npos && target.front() != '/') {
    const auto slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return target.substr(0, target.find('?'));
}

std::string percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size()) {
      const char* end = text.data() + i + 3;
      if (std::from_chars(text.data() + i + 1, end, byte, 16).ptr == end) {
        decoded += static_cast<char>(byte);
        i += 2;
        continue;
      }
    }
    decoded += text[i];
  }
  return decoded;
}

std::string random_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", random(), random());
}

std::string choose_request_id(std::string_view given) {
  constexpr std::size_t longest = 128;
  const bool usable =
      !given.empty() && given.size() <= longest &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > 32 && c < 127; });
  return usable ? std::string(given) : "req-" + random_id();
}

std::string to_wire(const http_reply& reply, const http_request& request, bool keep_alive) {
  std::string bytes = head_of(reply, request, keep_alive);
  if (reply.status != 204) bytes += fmt::format("Content-Length: {}\r\n", reply.body.size());
  bytes += "\r\n";
  if (request.method != "HEAD" && reply.status != 204) bytes += reply.body;
  return bytes;
}

std::string stream_head(const http_reply& reply, const http_request& request, bool keep_alive) {
  std::string head = head_of(reply, request, keep_alive);
  if (!request.http_1_0) head += "Transfer-Encoding: chunked\r\n";
  head += "\r\n";
  return head;
}

void append_chunk(std::string& out, std::string_view bytes) {
  if (bytes.empty()) return;
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", bytes.size());
  out += bytes;
  out += "\r\n";
}

}  // namespace quire
