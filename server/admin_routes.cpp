// Routes for whoever runs the server. They take the key of server.admin_key_file and nobody else's.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "server/http_api.hpp"

namespace quire {
namespace {

/// Takes as long for any text of the same length, so that answers do not tell how much was right.
bool same_text(std::string_view a, std::string_view b) {
  unsigned char different = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    different = static_cast<unsigned char>(different | (a[i] ^ b[i]));
  return different == 0;
}

std::string_view bearer_of(std::string_view authorization) {
  constexpr std::string_view scheme = "bearer ";
  if (authorization.size() < scheme.size()) return {};
  for (std::size_t i = 0; i < scheme.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c) != scheme[i]) return {};
  }
  authorization.remove_prefix(scheme.size());
  const std::size_t begin = authorization.find_first_not_of(' ');
  return begin == std::string_view::npos ? std::string_view() : authorization.substr(begin);
}

}  // namespace

result<std::string> read_admin_key(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream.is_open() || stream.bad())
    return fail(errc::io_error, fmt::format("server.admin_key_file: {}: cannot be read: {}", file,
                                            std::strerror(errno)));
  constexpr std::string_view space = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(space);
  if (begin == std::string::npos)
    return fail(
        errc::invalid_argument,
        fmt::format("server.admin_key_file: {}: is empty; it holds the key and nothing else",
                    file));
  text = text.substr(begin, text.find_last_not_of(space) - begin + 1);
  if (text.find_first_of(space) != std::string::npos)
    return fail(errc::invalid_argument,
                fmt::format("server.admin_key_file: {}: holds more than one word; a key has no "
                            "spaces and no second line",
                            file));
  return text;
}

std::optional<http_reply> http_api::refuse_stranger(const http_request& request) const {
  api_error failure;
  if (admin_key_.empty()) {
    failure.status = 403;
    failure.type = "permission_error";
    failure.code = "admin_routes_off";
    failure.message = "The admin routes are off; set server.admin_key_file to turn them on.";
    return error_reply(failure);
  }
  if (same_text(bearer_of(request.authorization), admin_key_)) return std::nullopt;
  failure.status = 401;
  failure.type = "authentication_error";
  failure.code = "invalid_api_key";
  failure.message = "This route needs the admin key as 'Authorization: Bearer KEY'.";
  return error_reply(failure);
}

http_api::answer http_api::check_engine(const http_request& request) {
  if (auto refused = refuse_stranger(request)) return *std::move(refused);
  const auto sound = engine_->check();
  if (sound) return json_reply({{"ok", true}});
  if (sound.error().code != errc::internal)
    return error_reply(to_api_error(sound.error(), "", request.request_id));
  return json_reply({{"ok", false}, {"defect", sound.error().message}});
}

}  // namespace quire
