// What the server refuses, over real sockets: each refusal with its status and the error object.
#include <array>
#include <atomic>
#include <thread>

#include "server/http_server.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_engine.hpp"
#include "tests/support/http_client.hpp"

using namespace quire;
using json = nlohmann::json;

namespace {

struct fixture {
  explicit fixture(fake_engine::script script = say({"x"}), server_options options = {})
      : engine(std::move(script)) {
    options.port = 0;
    server = std::move(http_server::start(options, engine).value());
  }
  std::uint16_t port() const { return server->port(); }

  fake_engine engine;
  std::unique_ptr<http_server> server;
};

const json question = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};

json streaming() {
  auto body = question;
  body["stream"] = true;
  return body;
}

void check_error(const http_answer& answer, int status, const char* type, const json& param,
                 const json& code) {
  CHECK(answer.status == status);
  const auto failure = answer.json()["error"];
  CHECK(failure.size() == 4);
  CHECK_FALSE(failure["message"].get<std::string>().empty());
  CHECK(failure["type"] == type);
  CHECK(failure["param"] == param);
  CHECK(failure["code"] == code);
}

fake_engine::script fail_with(error why) {
  return [why](fake_engine::stream& out) { out.emit(failed_event{why}); };
}

}  // namespace

TEST_CASE("wrong requests get the error object and the connection goes on", "[server][e2e]") {
  fixture f;
  http_client client(f.port());
  const auto post = [&](const std::string& body, const std::string& headers = "") {
    return client.request("POST", "/v1/chat/completions", body, headers);
  };
  check_error(post("{oops"), 400, "invalid_request_error", nullptr, "invalid_json");
  check_error(post(""), 400, "invalid_request_error", nullptr, "invalid_json");
  check_error(post("[]"), 400, "invalid_request_error", nullptr, "invalid_value");
  check_error(post("{}"), 400, "invalid_request_error", "messages", "invalid_value");
  check_error(post(R"({"messages": []})"), 400, "invalid_request_error", "messages",
              "invalid_value");
  check_error(post(R"({"messages": 3})"), 400, "invalid_request_error", "messages",
              "invalid_value");
  check_error(post(R"({"model": "x", "messages": []})"), 404, "not_found_error", "model",
              "model_not_found");
  check_error(post("{}", "Content-Type: text/plain\r\n"), 415, "invalid_request_error", nullptr,
              "unsupported_media_type");
  // What `curl -d` sends when nobody names a type is read as JSON.
  check_error(post("{", "Content-Type: application/x-www-form-urlencoded\r\n"), 400,
              "invalid_request_error", nullptr, "invalid_json");
  check_error(client.request("GET", "/v1/nothing"), 404, "not_found_error", nullptr,
              "unknown_route");
  check_error(client.post("/v1/embeddings", {{"input", "x"}}), 400, "invalid_request_error",
              nullptr, "unsupported_parameter");
  const auto wrong_method = client.request("GET", "/v1/chat/completions");
  check_error(wrong_method, 405, "invalid_request_error", nullptr, "method_not_allowed");
  CHECK(wrong_method.headers.at("allow") == "POST, OPTIONS");
  const auto options = client.request("OPTIONS", "/v1/models");
  CHECK(options.status == 204);
  CHECK(options.headers.at("allow") == "GET, HEAD, OPTIONS");
  CHECK(f.engine.requests().empty());
  CHECK(post(question.dump(), "Content-Type: application/json; charset=utf-8\r\n").status == 200);
  CHECK(post(question.dump()).status == 200);  // no content type at all
}

TEST_CASE("a body above the limit is refused, however it is announced", "[server][e2e]") {
  fixture f;
  const std::string big(9 << 20, ' ');
  SECTION("by its length") {
    http_client client(f.port());
    client.send_request("POST", "/v1/chat/completions", big);
    check_error(client.read_answer(), 413, "invalid_request_error", nullptr, "request_too_large");
    CHECK(client.at_end());
  }
  SECTION("by its length, before any of it is sent") {
    http_client client(f.port());
    client.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        "Content-Length: 99999999999\r\n\r\n");
    check_error(client.read_answer(), 413, "invalid_request_error", nullptr, "request_too_large");
  }
  SECTION("in chunks") {
    http_client client(f.port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("900000\r\n" + big + "\r\n0\r\n\r\n");
    check_error(client.read_answer(), 413, "invalid_request_error", nullptr, "request_too_large");
  }
  SECTION("and one below it is read") {
    http_client client(f.port());
    auto body = question;
    body["messages"][0]["content"] = std::string(7 << 20, 'a');
    CHECK(client.post("/v1/chat/completions", body).status == 200);
  }
}

TEST_CASE("what is not HTTP is refused and the connection closed", "[server][e2e]") {
  fixture f;
  http_client client(f.port());
  client.send("this is not http\r\n\r\n");
  check_error(client.read_answer(), 400, "invalid_request_error", nullptr, "invalid_request");
  CHECK(client.at_end());
  http_client large(f.port());
  large.send("GET /health HTTP/1.1\r\nX: " + std::string(100000, 'x') + "\r\n\r\n");
  check_error(large.read_answer(), 431, "invalid_request_error", nullptr, "header_too_large");
}

TEST_CASE("failures before the first token have their own status, streaming or not",
          "[server][e2e]") {
  struct row {
    errc code;
    std::array<std::uint64_t, 2> numbers;
    int status;
    const char* type;
    json param;
    const char* name;
  };
  const row rows[] = {
      {errc::context_length_exceeded,
       {5000, 4096},
       400,
       "invalid_request_error",
       "messages",
       "context_length_exceeded"},
      {errc::queue_full, {1500, 0}, 429, "rate_limit_error", nullptr, "queue_full"},
      {errc::unavailable, {}, 503, "server_error", nullptr, "unavailable"},
      {errc::deadline_exceeded, {}, 504, "server_error", nullptr, "deadline_exceeded"},
      {errc::internal, {}, 500, "server_error", nullptr, "internal_error"},
  };
  for (const auto& [code, numbers, status, type, param, name] : rows) {
    fixture f(fail_with({code, "secret", numbers}));
    http_client client(f.port());
    check_error(client.post("/v1/chat/completions", question), status, type, param, name);
    const auto answer = client.post("/v1/chat/completions", streaming());
    check_error(answer, status, type, param, name);
    if (code == errc::internal) CHECK(answer.body.find("secret") == std::string::npos);
    if (code == errc::queue_full) {
      CHECK(answer.headers.at("retry-after") == "2");
      CHECK(answer.headers.at("retry-after-ms") == "1500");
    }
    CHECK(client.request("GET", "/health").status == 200);
  }
}

TEST_CASE("a failure after admission but before a token has its own status", "[server][e2e]") {
  fixture f([](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    out.emit(failed_event{{errc::deadline_exceeded, "waited too long", {}}});
  });
  http_client client(f.port());
  CHECK(client.post("/v1/chat/completions", streaming()).status == 504);
}

TEST_CASE("a failure in mid-stream is an event, and no end mark follows", "[server][e2e]") {
  std::atomic<bool> seen = false;
  fixture f([&](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    out.emit(delta_event{0, "begun", {}});
    seen.wait(false);
    out.emit(failed_event{{errc::internal, "secret", {}}});
  });
  http_client client(f.port());
  client.send_request("POST", "/v1/chat/completions", streaming().dump());
  auto head = client.read_past("begun");
  CHECK(head.starts_with("HTTP/1.1 200"));
  seen = true;
  seen.notify_all();
  const auto rest = client.read_past("0\r\n\r\n");
  const auto at = rest.find("data: {\"error\":");
  REQUIRE(at != std::string::npos);
  const auto event = json::parse(rest.substr(at + 6, rest.find("\n\n", at) - at - 6));
  CHECK(event["error"].size() == 4);
  CHECK(event["error"]["type"] == "server_error");
  CHECK(rest.find("[DONE]") == std::string::npos);
  CHECK(rest.find("secret") == std::string::npos);
  CHECK(client.at_end());
}

TEST_CASE("one failing prompt of a list fails the call and cancels the others", "[server][e2e]") {
  fixture f([](fake_engine::stream& out) {
    if (std::get<text_prompt>(out.request.prompt).text == "bad") {
      out.emit(failed_event{{errc::queue_full, "full", {10, 0}}});
      return;
    }
    out.emit(admitted_event{1});
    out.wait_for_cancel();
  });
  http_client client(f.port());
  CHECK(client.post("/v1/completions", {{"prompt", {"good", "bad", "good"}}}).status == 429);
  CHECK(f.engine.wait_for_cancels(3));
}

TEST_CASE("a request that takes too long is cancelled and told", "[server][e2e]") {
  server_options options;
  options.request_timeout_ms = 100;
  fixture f(
      [](fake_engine::stream& out) {
        out.emit(admitted_event{1});
        out.wait_for_cancel();
      },
      options);
  http_client client(f.port());
  check_error(client.post("/v1/chat/completions", question), 504, "server_error", nullptr,
              "deadline_exceeded");
  check_error(client.post("/v1/chat/completions", streaming()), 504, "server_error", nullptr,
              "deadline_exceeded");
  CHECK(f.engine.wait_for_cancels(2));
}

TEST_CASE("browsers of allowed origins are let in and others are not", "[server][e2e]") {
  server_options options;
  options.cors_origins = {"http://app.example"};
  fixture f(say({"x"}), options);
  http_client client(f.port());
  const auto preflight =
      client.request("OPTIONS", "/v1/chat/completions", "",
                     "Origin: http://app.example\r\nAccess-Control-Request-Method: POST\r\n");
  CHECK(preflight.status == 204);
  CHECK(preflight.headers.at("access-control-allow-origin") == "http://app.example");
  CHECK(preflight.headers.at("access-control-allow-headers").find("authorization") !=
        std::string::npos);
  const auto stream = client.request("POST", "/v1/chat/completions", streaming().dump(),
                                     "Origin: http://app.example\r\n");
  CHECK(stream.headers.at("access-control-allow-origin") == "http://app.example");
  const auto stranger = client.request("GET", "/health", "", "Origin: http://evil.example\r\n");
  CHECK_FALSE(stranger.headers.contains("access-control-allow-origin"));
}

TEST_CASE("an engine that throws is a 500 that keeps its secrets", "[server][e2e]") {
  fixture f;
  f.engine.throw_from_status = true;
  http_client client(f.port());
  const auto answer = client.request("GET", "/v1/engine/status");
  check_error(answer, 500, "server_error", nullptr, "internal_error");
  CHECK(answer.body.find("secret") == std::string::npos);
}
