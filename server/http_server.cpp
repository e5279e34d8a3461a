#include "server/http_server.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "server/http_api.hpp"
#include "server/http_connection.hpp"

namespace quire {
namespace net = boost::asio;
using boost::system::error_code;
using tcp = net::ip::tcp;

namespace {

constexpr std::size_t num_workers = 2;
constexpr int listen_backlog = 1024;
constexpr std::chrono::milliseconds accept_pause{100};  // when the process is out of descriptors
constexpr std::chrono::seconds flush_timeout{2};        // for answers under way when draining ends

result<void> check_options(const server_options& options) {
  if (!options.tls_cert.empty() || !options.tls_key.empty())
    return fail(
        errc::unsupported,
        "server.tls_cert and server.tls_key are not supported yet; leave them empty and put "
        "a TLS proxy in front");
  if (!options.api_keys_file.empty())
    return fail(errc::unsupported, "server.api_keys_file is not supported yet; leave it empty");
  if (options.max_body_bytes == 0)
    return fail(errc::invalid_argument, "server.max_body_bytes must be above 0");
  if (options.request_timeout_ms == 0)
    return fail(errc::invalid_argument, "server.request_timeout_ms must be above 0");
  return {};
}

}  // namespace

struct http_server::impl {
  impl(const server_options& given, engine& served_engine, served_model served)
      : options(given),
        api(options, served_engine, std::move(served)),
        workers(num_workers),
        context{options, api, workers, answers},
        acceptor(io) {}

  result<void> listen();
  net::awaitable<void> accept_all();
  void admit(tcp::socket socket);
  void run();
  void stop();

  server_options options;
  net::io_context io{1};
  http_api api;
  net::thread_pool workers;
  answer_count answers;
  connection_context context;
  tcp::acceptor acceptor;
  std::thread thread;
  std::uint16_t port = 0;
  std::once_flag stopped;
  // Only touched on the io thread.
  std::map<std::uint64_t, std::weak_ptr<http_connection>> connections;
  std::uint64_t next_connection = 0;
  std::size_t sweep_at = 64;
};

result<void> http_server::impl::listen() {
  error_code failure;
  tcp::resolver resolver(io);
  const auto place = fmt::format("{}:{}", options.host, options.port);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, failure);
  if (failure || found.empty())
    return fail(errc::io_error, fmt::format("cannot resolve server.host '{}': {}", options.host,
                                            failure.message()));
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), failure);
  if (!failure) acceptor.set_option(net::socket_base::reuse_address(true), failure);
  if (!failure) acceptor.bind(endpoint, failure);
  if (!failure) acceptor.listen(listen_backlog, failure);
  if (failure == net::error::address_in_use)
    return fail(errc::io_error,
                fmt::format("cannot listen on {}: another program listens there; stop it or choose "
                            "another server.port (--port)",
                            place));
  if (failure)
    return fail(errc::io_error, fmt::format("cannot listen on {}: {}", place, failure.message()));
  port = acceptor.local_endpoint(failure).port();
  return {};
}

net::awaitable<void> http_server::impl::accept_all() {
  constexpr auto use_task = net::as_tuple(net::use_awaitable);
  for (;;) {
    tcp::socket socket(net::make_strand(io));
    const auto [failure] = co_await acceptor.async_accept(socket, use_task);
    if (!acceptor.is_open()) co_return;
    if (failure == net::error::operation_aborted) co_return;
    if (failure) {
      spdlog::warn("cannot accept a connection: {}", failure.message());
      net::steady_timer pause(io, accept_pause);
      co_await pause.async_wait(use_task);
      continue;
    }
    admit(std::move(socket));
  }
}

void http_server::impl::admit(tcp::socket socket) {
  if (connections.size() >= sweep_at) {
    std::erase_if(connections, [](const auto& entry) { return entry.second.expired(); });
    sweep_at = 64 + 2 * connections.size();
  }
  auto connection = std::make_shared<http_connection>(std::move(socket), context);
  connections.emplace(next_connection++, connection);
  connection->start();
}

void http_server::impl::run() {
  for (;;) {
    try {
      io.run();
      return;
    } catch (const std::exception& failure) {
      spdlog::error("the server's io thread goes on after an error: {}", failure.what());
    }
  }
}

void http_server::impl::stop() {
  std::call_once(stopped, [this] {
    api.set_draining();
    net::post(io, [this] {
      error_code ignored;
      acceptor.close(ignored);
      for (const auto& [id, weak] : connections)
        if (const auto connection = weak.lock()) connection->close();
    });
    if (thread.joinable()) thread.join();  // ends when the last connection has
    workers.join();
  });
}

result<std::unique_ptr<http_server>> http_server::start(const server_options& options,
                                                        engine& served_engine,
                                                        served_model served) {
  if (auto checked = check_options(options); !checked)
    return tl::unexpected(std::move(checked.error()));
  auto state = std::make_unique<impl>(options, served_engine, std::move(served));
  if (!options.admin_key_file.empty()) {
    auto key = read_admin_key(options.admin_key_file);
    if (!key) return tl::unexpected(std::move(key.error()));
    state->api.set_admin_key(*std::move(key));
  }
  if (auto listening = state->listen(); !listening)
    return tl::unexpected(std::move(listening.error()));
  net::co_spawn(state->io, state->accept_all(), net::detached);
  state->thread = std::thread([running = state.get()] { running->run(); });
  spdlog::debug("listening on {}:{}", options.host, state->port);
  return std::unique_ptr<http_server>(new http_server(std::move(state)));
}

http_server::http_server(std::unique_ptr<impl> state) : impl_(std::move(state)) {}

http_server::~http_server() {
  stop();
}

std::uint16_t http_server::port() const noexcept {
  return impl_->port;
}

bool http_server::drain() {
  impl_->api.set_draining();
  const bool finished =
      impl_->api.served_engine().drain(std::chrono::milliseconds(impl_->options.drain_timeout_ms));
  impl_->answers.wait_for_none(flush_timeout);
  stop();
  return finished;
}

void http_server::stop() {
  impl_->stop();
}

}  // namespace quire
