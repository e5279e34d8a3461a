#include "server/http_connection.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

#include "server/generation_run.hpp"

namespace quire {
namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr auto use_task = net::as_tuple(net::use_awaitable);
constexpr std::chrono::seconds idle_timeout{75};   // for the head of the next request
constexpr std::chrono::seconds body_timeout{120};  // for all of a body
constexpr std::chrono::seconds linger_timeout{5};
constexpr std::uint32_t header_limit_bytes = 64 * 1024;
constexpr std::size_t linger_limit_bytes = 64u << 20;
constexpr int send_buffer_bytes = 32 * 1024;

using request_parser = http::request_parser<http::string_body>;

http_request describe(const request_parser& parser) {
  const auto& message = parser.get();
  http_request request;
  request.method = std::string(message.method_string());
  request.path = std::string(path_of(message.target()));
  if (const auto type = message.find(http::field::content_type); type != message.end())
    request.content_type = std::string(type->value());
  request.authorization = std::string(message[http::field::authorization]);
  request.origin = std::string(message[http::field::origin]);
  request.request_id = choose_request_id(message["x-request-id"]);
  request.keep_alive = message.keep_alive();
  request.http_1_0 = message.version() < 11;
  return request;
}

api_error unreadable(int status, std::string code, std::string message) {
  api_error failure;
  failure.status = status;
  failure.code = std::move(code);
  failure.message = std::move(message);
  return failure;
}

// A refusal for what the parser found wrong; nullopt when the connection itself ended.
std::optional<api_error> refusal_of(const error_code& failure, std::uint64_t max_body_bytes) {
  if (failure == http::error::body_limit)
    return unreadable(
        413, "request_too_large",
        fmt::format("The body is larger than server.max_body_bytes, {} bytes.", max_body_bytes));
  if (failure == http::error::header_limit)
    return unreadable(431, "header_too_large",
                      fmt::format("The header is larger than {} bytes.", header_limit_bytes));
  if (failure == http::error::end_of_stream || failure == http::error::partial_message)
    return std::nullopt;
  if (failure.category() == make_error_code(http::error::bad_method).category())
    return unreadable(400, "invalid_request",
                      fmt::format("The request is not valid HTTP: {}.", failure.message()));
  return std::nullopt;
}

}  // namespace

http_connection::http_connection(tcp::socket socket, connection_context& context)
    : stream_(std::move(socket)), bell_(stream_.get_executor()), context_(context) {}

void http_connection::start() {
  auto self = shared_from_this();
  net::co_spawn(stream_.get_executor(), run(self), [self](std::exception_ptr failure) {
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& why) {
      spdlog::error("a connection ended by an unexpected error: {}", why.what());
    }
  });
}

void http_connection::close() {
  net::post(stream_.get_executor(), [self = shared_from_this()] {
    self->gone_ = true;
    if (self->watched_ != nullptr) self->watched_->cancel();
    self->stream_.close();
    self->ring();
  });
}

auto http_connection::run(std::shared_ptr<http_connection>) -> task<> {
  error_code ignored;
  stream_.socket().set_option(tcp::no_delay(true), ignored);
  stream_.socket().set_option(net::socket_base::keep_alive(true), ignored);
  // Left to itself the system buffers megabytes for a client that does not read.
  stream_.socket().set_option(net::socket_base::send_buffer_size(send_buffer_bytes), ignored);
  auto follow = next::read_on;
  while (follow == next::read_on && !gone_) follow = co_await serve_one();
  if (follow == next::linger && !gone_) co_await linger();
  stream_.close();
}

auto http_connection::serve_one() -> task<next> {
  request_parser parser;
  parser.header_limit(header_limit_bytes);
  parser.body_limit(context_.options.max_body_bytes);
  stream_.expires_after(idle_timeout);
  auto [failure, header_bytes] =
      co_await http::async_read_header(stream_, buffer_, parser, use_task);
  if (!failure && !parser.is_done()) {
    if (beast::iequals(parser.get()[http::field::expect], "100-continue") &&
        parser.get().version() >= 11)
      if (!co_await write("HTTP/1.1 100 Continue\r\n\r\n")) co_return next::hang_up;
    stream_.expires_after(body_timeout);
    std::tie(failure, header_bytes) = co_await http::async_read(stream_, buffer_, parser, use_task);
  }
  stream_.expires_never();
  auto request = describe(parser);
  if (failure) {
    const auto refusal = refusal_of(failure, context_.options.max_body_bytes);
    if (!refusal) co_return next::hang_up;
    co_await send(error_reply(*refusal), request, false);
    co_return next::linger;
  }
  request.body = std::move(parser.get().body());
  const answer_count::scope counted(context_.answers);
  auto answer = co_await ask(request);
  if (gone_) co_return next::hang_up;
  if (auto* call = std::get_if<openai_call>(&answer))
    co_return co_await generate(request, std::move(*call));
  co_return co_await send(std::get<http_reply>(std::move(answer)), request, request.keep_alive);
}

auto http_connection::ask(const http_request& request) -> task<http_api::answer> {
  if (http_api::is_quick(request)) co_return context_.api.handle(request);
  auto& api = context_.api;
  auto work = [](http_api& of, const http_request& asked) -> task<http_api::answer> {
    co_return of.handle(asked);
  };
  co_return co_await net::co_spawn(context_.workers, work(api, request), net::use_awaitable);
}

auto http_connection::send(http_reply reply, const http_request& request, bool keep_alive)
    -> task<next> {
  context_.api.decorate(reply, request);
  spdlog::debug("{} {} -> {} ({})", request.method, request.path, reply.status, request.request_id);
  const auto bytes = to_wire(reply, request, keep_alive);
  if (!co_await write(bytes)) co_return next::hang_up;
  co_return keep_alive ? next::read_on : next::linger;
}

auto http_connection::write(const std::string& bytes) -> task<bool> {
  stream_.expires_after(std::chrono::milliseconds(context_.options.request_timeout_ms));
  auto [failure, written] = co_await net::async_write(stream_, net::buffer(bytes), use_task);
  stream_.expires_never();
  if (failure) gone_ = true;
  co_return !failure;
}

// Closing a socket with unread input resets it, and the client may lose the answer that explains
// why.
auto http_connection::linger() -> task<> {
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(linger_timeout);
  std::size_t discarded = 0;
  while (discarded < linger_limit_bytes) {
    buffer_.clear();
    auto [failure, size] = co_await stream_.async_read_some(buffer_.prepare(65536), use_task);
    if (failure) break;
    discarded += size;
  }
}

}  // namespace quire
