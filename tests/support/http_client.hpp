// A plain blocking HTTP client for tests: raw bytes out, parsed replies in. Nothing of the server's
// code.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quire {

struct http_answer {
  int status = 0;
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;
  nlohmann::json json() const { return nlohmann::json::parse(body); }
  /// The payloads of server-sent events, comments left out.
  std::vector<std::string> events() const {
    std::vector<std::string> found;
    std::size_t at = 0;
    for (std::size_t end; (end = body.find("\n\n", at)) != std::string::npos; at = end + 2)
      if (const auto event = body.substr(at, end - at); event.starts_with("data: "))
        found.push_back(event.substr(6));
    return found;
  }
};

class http_client {
 public:
  explicit http_client(std::uint16_t port) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval limit{20, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int yes = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("cannot connect");
  }
  ~http_client() { leave(); }
  http_client(const http_client&) = delete;
  http_client& operator=(const http_client&) = delete;

  /// Closes the way a killed process does.
  void leave() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  /// Closes with a reset.
  void reset() {
    linger now{1, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    leave();
  }
  /// Sends all bytes; false when the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  bool send_request(std::string_view method, std::string_view path, std::string_view body = "",
                    std::string_view more_headers = "") {
    std::string bytes(method);
    bytes += ' ';
    bytes += path;
    bytes += " HTTP/1.1\r\nHost: test\r\n";
    bytes += more_headers;
    if (!body.empty() || method == "POST")
      bytes += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    bytes += "\r\n";
    bytes += body;
    return send(bytes);
  }
  http_answer request(std::string_view method, std::string_view path, std::string_view body = "",
                      std::string_view more_headers = "") {
    send_request(method, path, body, more_headers);
    return read_answer(method == "HEAD");
  }
  http_answer post(std::string_view path, const nlohmann::json& body) {
    return request("POST", path, body.dump(), "Content-Type: application/json\r\n");
  }

  /// Reads one answer; throws when the connection ends before it does.
  http_answer read_answer(bool head_only = false) {
    http_answer answer = parse_head(read_past("\r\n\r\n"));
    if (answer.status == 100) return answer;
    if (head_only || answer.status == 204) return answer;
    if (answer.headers.contains("transfer-encoding")) {
      for (;;) {
        const auto size = std::stoul(read_past("\r\n"), nullptr, 16);
        answer.body += read_exactly(size);
        if (read_exactly(2) != "\r\n") throw std::runtime_error("bad chunk");
        if (size == 0) return answer;
      }
    }
    if (const auto length = answer.headers.find("content-length"); length != answer.headers.end())
      answer.body = read_exactly(std::stoul(length->second));
    else
      do answer.body += std::exchange(held_, {});
      while (fill());
    return answer;
  }
  /// Reads until the text has come; returns everything up to and with it.
  std::string read_past(std::string_view text) {
    std::size_t at;
    while ((at = held_.find(text)) == std::string::npos)
      if (!fill()) throw std::runtime_error("the connection ended; held: " + held_);
    auto found = held_.substr(0, at + text.size());
    held_.erase(0, at + text.size());
    return found;
  }
  /// Whether the server has closed and nothing is left to read.
  bool at_end() { return held_.empty() && !fill(); }

 private:
  bool fill() {
    char piece[65536];
    const auto size = ::recv(socket_, piece, sizeof piece, 0);
    if (size <= 0) return false;
    held_.append(piece, static_cast<std::size_t>(size));
    return true;
  }
  std::string read_exactly(std::size_t size) {
    while (held_.size() < size)
      if (!fill()) throw std::runtime_error("the connection ended in a body");
    auto found = held_.substr(0, size);
    held_.erase(0, size);
    return found;
  }
  static http_answer parse_head(const std::string& head) {
    http_answer answer;
    answer.status = std::stoi(head.substr(head.find(' ') + 1));
    std::size_t at = head.find("\r\n") + 2;
    for (std::size_t end; (end = head.find("\r\n", at)) != at; at = end + 2) {
      const auto colon = head.find(':', at);
      auto name = head.substr(at, colon - at);
      for (auto& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.headers[name] = head.substr(colon + 2, end - colon - 2);
    }
    return answer;
  }

  int socket_ = -1;
  std::string held_;
};

}  // namespace quire
