// What only time shows: this test takes as long as the silence that it waits for.
#include "server/http_server.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_engine.hpp"
#include "tests/support/http_client.hpp"

using namespace quire;

TEST_CASE("a stream that is silent for fifteen seconds gets a comment", "[server][slow]") {
  fake_engine engine([](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    out.wait_for_cancel();
  });
  server_options options;
  options.port = 0;
  const auto server = std::move(http_server::start(options, engine).value());
  http_client client(server->port());
  client.send_request("POST", "/v1/completions", R"({"prompt": "x", "stream": true})");
  const auto head = client.read_past("\r\n\r\n");
  CHECK(head.starts_with("HTTP/1.1 200"));
  CHECK(client.read_past("\n\n").find("\r\n: ") != std::string::npos);
  client.leave();
  CHECK(engine.wait_for_cancels(1));
}
