// The server over real sockets: answers, streams, clients that come and go.
#include "server/http_server.hpp"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "tests/support/catch.hpp"
#include "tests/support/fake_engine.hpp"
#include "tests/support/http_client.hpp"

using namespace quire;
using json = nlohmann::json;

namespace {

struct fixture {
  explicit fixture(fake_engine::script script, server_options options = {})
      : engine(std::move(script)) {
    options.port = 0;
    server = std::move(http_server::start(options, engine, {{"other-name"}, {}}).value());
  }
  std::uint16_t port() const { return server->port(); }

  fake_engine engine;
  std::unique_ptr<http_server> server;
};

const json question = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};

json streaming(json body = question) {
  body["stream"] = true;
  return body;
}

std::string text_of(const http_answer& answer) {
  std::string text;
  for (const auto& event : answer.events()) {
    if (event == "[DONE]") continue;
    const auto chunk = json::parse(event);
    if (!chunk["choices"].empty()) text += chunk["choices"][0]["delta"].value("content", "");
  }
  return text;
}

// Admits, says one word, then streams nothing until it is cancelled.
void say_and_hang(fake_engine::stream& out) {
  out.emit(admitted_event{1});
  out.emit(delta_event{0, "word", {}});
  out.wait_for_cancel();
}

}  // namespace

TEST_CASE("chat answers whole and streamed", "[server][e2e]") {
  fixture f(say({"Hello", " world"}));
  http_client client(f.port());
  const auto whole = client.post("/v1/chat/completions", question);
  CHECK(whole.status == 200);
  CHECK(whole.headers.at("content-type") == "application/json");
  CHECK(whole.json()["choices"][0]["message"]["content"] == "Hello world");
  CHECK(whole.json()["usage"]["completion_tokens"] == 2);

  const auto stream = client.post("/v1/chat/completions", streaming());  // same connection
  CHECK(stream.status == 200);
  CHECK(stream.headers.at("content-type").starts_with("text/event-stream"));
  CHECK(stream.headers.at("cache-control") == "no-cache");
  CHECK(text_of(stream) == "Hello world");
  CHECK(stream.events().back() == "[DONE]");

  CHECK(client.request("GET", "/health").status == 200);  // and again after a stream
  CHECK(f.engine.num_cancelled() == 0);
}

TEST_CASE("completions answer for lists of prompts and several choices", "[server][e2e]") {
  fixture f(say({"x"}));
  http_client client(f.port());
  const auto answer = client.post("/v1/completions", {{"prompt", {"a", "b", "c"}}, {"n", 2}});
  REQUIRE(answer.status == 200);
  CHECK(answer.json()["object"] == "text_completion");
  CHECK(answer.json()["choices"].size() == 6);
  CHECK(f.engine.requests().size() == 3);
}

TEST_CASE("models, readiness, status and tokens answer in their shapes", "[server][e2e]") {
  fixture f(say({}));
  http_client client(f.port());
  const auto models = client.request("GET", "/v1/models").json();
  CHECK(models["object"] == "list");
  CHECK(models["data"].size() == 2);
  for (const auto* key :
       {"id", "object", "created", "owned_by", "root", "parent", "max_model_len", "meta"})
    CHECK(models["data"][0].contains(key));
  CHECK(models["data"][0]["root"] == "fake-model");
  CHECK(models["data"][0]["max_model_len"] == 4096);
  CHECK(client.request("GET", "/v1/models/fake-model").json()["id"] == "fake-model");
  CHECK(client.request("GET", "/v1/models/other%2dname").json()["id"] == "other-name");
  CHECK(client.request("GET", "/v1/models/none").status == 404);
  CHECK(client.request("GET", "/ready").status == 200);

  const auto status = client.request("GET", "/v1/engine/status").json();
  CHECK(status["pages"]["total"] == 64);
  CHECK(status["pages"]["used"] == 16);
  CHECK(status["pages"]["utilization"] == 0.25);
  CHECK(status["counters"]["steps"] == 7);

  for (const auto* field : {"prompt", "content", "text"}) {
    const auto tokens = client.post("/tokenize", {{field, "ab"}}).json();
    CHECK(tokens["tokens"] == json{97, 98});
    CHECK(tokens["count"] == 2);
    CHECK(tokens["max_model_len"] == 4096);
  }
  const auto text = client.post("/detokenize", {{"tokens", {97, 98}}}).json();
  CHECK(text["prompt"] == "ab");
  CHECK(text["content"] == "ab");
  CHECK(client.post("/detokenize", {{"tokens", {999}}}).json()["error"]["param"] == "tokens[0]");
}

TEST_CASE("a conversation is rendered by the model's template", "[server][e2e]") {
  fixture f(say({}));
  f.engine.set_template(
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}");
  http_client client(f.port());
  CHECK(client.post("/apply-template", question).json()["prompt"] == "<user>hi</s><assistant>");
  auto body = question;
  body["add_generation_prompt"] = false;
  CHECK(client.post("/apply-template", body).json()["prompt"] == "<user>hi</s>");
  CHECK(client.post("/apply-template", {{"messages", 1}}).json()["error"]["param"] == "messages");
  f.engine.set_template("{{ raise_exception('no such conversation') }}");
  const auto refused = client.post("/apply-template", question);
  CHECK(refused.status == 400);
  CHECK(refused.json()["error"]["message"].get<std::string>().find("no such conversation") !=
        std::string::npos);
}

TEST_CASE("the page is one document that names no other host", "[server][e2e]") {
  fixture f(say({}));
  http_client client(f.port());
  const auto page = client.request("GET", "/");
  CHECK(page.status == 200);
  CHECK(page.headers.at("content-type").starts_with("text/html"));
  CHECK(page.headers.at("content-security-policy").find("default-src 'none'") == 0);
  CHECK(page.body.find("id=\"prompt\"") != std::string::npos);
  CHECK(page.body.find("<script nonce=") != std::string::npos);
  CHECK(page.body.find("<!-- s") == std::string::npos);
  CHECK(page.body.find("https://") == std::string::npos);
}

TEST_CASE("HEAD tells the length and sends no body", "[server][e2e]") {
  fixture f(say({}));
  http_client client(f.port());
  const auto head = client.request("HEAD", "/health");
  CHECK(head.status == 200);
  CHECK(head.headers.at("content-length") == "15");
  CHECK(client.request("GET", "/health").body.size() == 15);  // nothing was left over
}

TEST_CASE("request ids are echoed, or made", "[server][e2e]") {
  fixture f(say({"x"}));
  http_client client(f.port());
  CHECK(client.request("GET", "/health", "", "X-Request-Id: mine\r\n").headers.at("x-request-id") ==
        "mine");
  CHECK(client.request("GET", "/health").headers.at("x-request-id").size() > 8);
  CHECK(client.request("POST", "/v1/chat/completions", streaming().dump(), "x-request-id: s1\r\n")
            .headers.at("x-request-id") == "s1");
}

TEST_CASE("pipelined requests are answered in order", "[server][e2e]") {
  fixture f(say({"one"}));
  http_client client(f.port());
  client.send_request("POST", "/v1/chat/completions", streaming().dump());
  client.send_request("GET", "/health");
  client.send_request("POST", "/v1/chat/completions", question.dump());
  client.send_request("GET", "/nowhere");
  CHECK(text_of(client.read_answer()) == "one");
  CHECK(client.read_answer().json()["status"] == "ok");
  CHECK(client.read_answer().json()["choices"][0]["message"]["content"] == "one");
  CHECK(client.read_answer().status == 404);
  CHECK(f.engine.num_cancelled() == 0);
}

TEST_CASE("requests may come in single bytes and in chunks", "[server][e2e]") {
  fixture f(say({"ok"}));
  http_client client(f.port());
  const auto body = question.dump();
  std::string request = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                        std::to_string(body.size()) + "\r\n\r\n" + body;
  for (const char c : request) REQUIRE(client.send(std::string_view(&c, 1)));
  CHECK(client.read_answer().status == 200);

  request = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char c : body) request += std::string("1\r\n") + c + "\r\n";
  client.send(request + "0\r\n\r\n");
  CHECK(client.read_answer().status == 200);
}

TEST_CASE("a client that expects 100 Continue gets it before its body", "[server][e2e]") {
  fixture f(say({"ok"}));
  http_client client(f.port());
  const auto body = question.dump();
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n");
  CHECK(client.read_answer().status == 100);
  client.send(body);
  CHECK(client.read_answer().status == 200);
}

TEST_CASE("old clients get a stream without chunks that ends with the connection",
          "[server][e2e]") {
  fixture f(say({"a", "b"}));
  http_client client(f.port());
  const auto body = streaming().dump();
  client.send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const auto answer = client.read_answer();
  CHECK_FALSE(answer.headers.contains("transfer-encoding"));
  CHECK(text_of(answer) == "ab");
}

TEST_CASE("a client that leaves is cancelled, streaming or not", "[server][e2e]") {
  fixture f(say_and_hang);
  SECTION("in mid-stream by closing") {
    http_client client(f.port());
    client.send_request("POST", "/v1/chat/completions", streaming().dump());
    client.read_past("word");
    client.leave();
    CHECK(f.engine.wait_for_cancels(1));
  }
  SECTION("in mid-stream by a reset") {
    http_client client(f.port());
    client.send_request("POST", "/v1/chat/completions", streaming().dump());
    client.read_past("word");
    client.reset();
    CHECK(f.engine.wait_for_cancels(1));
  }
  SECTION("while waiting for a whole answer") {
    http_client client(f.port());
    client.send_request("POST", "/v1/chat/completions", question.dump());
    client.leave();
    CHECK(f.engine.wait_for_cancels(1));
  }
  SECTION("with a pipelined request behind") {
    http_client client(f.port());
    client.send_request("POST", "/v1/chat/completions", streaming().dump());
    client.read_past("word");
    client.send_request("GET", "/health");
    client.leave();
    CHECK(f.engine.wait_for_cancels(1));
  }
  SECTION("with every prompt of its list") {
    http_client client(f.port());
    client.send_request("POST", "/v1/completions", R"({"prompt": ["a", "b", "c"]})");
    client.leave();
    CHECK(f.engine.wait_for_cancels(3));
  }
}

TEST_CASE("a reader that stalls neither blocks the engine nor loses text", "[server][e2e]") {
  constexpr int num_pieces = 20000;
  const std::string piece(1000, 'x');  // 20 MB in all, more than the sockets hold
  std::atomic<bool> spoken = false;
  fixture f([&](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    for (int i = 0; i < num_pieces; ++i) out.emit(delta_event{0, piece, {}});
    out.emit(finished_event{0, finish_reason::stop, {}});
    spoken = true;
    spoken.notify_all();
  });
  http_client client(f.port());
  client.send_request("POST", "/v1/chat/completions", streaming().dump());
  spoken.wait(false);  // the engine got rid of everything although nobody reads
  http_client other(f.port());
  CHECK(other.request("GET", "/health").status == 200);
  const auto answer = client.read_answer();
  CHECK(text_of(answer).size() == num_pieces * piece.size());
  CHECK(answer.events().size() < num_pieces);  // joined into larger pieces
  CHECK(answer.events().back() == "[DONE]");
}

TEST_CASE("a reader that stalls and leaves is cancelled", "[server][e2e]") {
  fixture f([](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    for (int i = 0; i < 20000; ++i) out.emit(delta_event{0, std::string(1000, 'x'), {}});
    out.wait_for_cancel();
  });
  http_client client(f.port());
  client.send_request("POST", "/v1/chat/completions", streaming().dump());
  client.read_past("xxx");
  client.leave();
  CHECK(f.engine.wait_for_cancels(1));
}

TEST_CASE("sixty-four clients stream at once and each gets its own text", "[server][e2e]") {
  fixture f([](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    const auto& variables = std::get<chat_prompt>(out.request.prompt).variables;
    const auto text = variables["messages"][0]["content"].get<std::string>();
    for (int i = 0; i < 50; ++i) {
      out.emit(delta_event{0, text + ";", {}});
      std::this_thread::yield();
    }
    out.emit(finished_event{0, finish_reason::stop, {}});
  });
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < 64; ++i)
    clients.emplace_back([&, i] {
      http_client client(f.port());
      for (int round = 0; round < 3; ++round) {
        const auto name = "client " + std::to_string(i) + "." + std::to_string(round);
        auto body = streaming();
        body["messages"][0]["content"] = name;
        std::string expected;
        for (int k = 0; k < 50; ++k) expected += name + ";";
        if (text_of(client.post("/v1/chat/completions", body)) == expected) ++right;
      }
    });
  for (auto& client : clients) client.join();
  CHECK(right == 64 * 3);
  CHECK(f.engine.num_cancelled() == 0);
}

TEST_CASE("stopping cancels what runs and closes the connections", "[server][e2e]") {
  fixture f(say_and_hang);
  http_client client(f.port());
  http_client idle(f.port());
  CHECK(idle.request("GET", "/health").status == 200);
  client.send_request("POST", "/v1/chat/completions", streaming().dump());
  client.read_past("word");
  f.server->stop();
  CHECK(f.engine.num_cancelled() == 1);
  CHECK(idle.at_end());
  f.server->stop();
  CHECK_THROWS(http_client(f.port()));
}

TEST_CASE("draining turns new work away and lets running answers be written", "[server][e2e]") {
  std::atomic<bool> go_on = false;
  fixture f([&](fake_engine::stream& out) {
    out.emit(admitted_event{1});
    out.emit(delta_event{0, "begun", {}});
    go_on.wait(false);
    out.emit(delta_event{0, " and ended", {}});
    out.emit(finished_event{0, finish_reason::stop, {}});
  });
  http_client client(f.port());
  http_client late(f.port());
  CHECK(late.request("GET", "/ready").status == 200);
  client.send_request("POST", "/v1/chat/completions", streaming().dump());
  const auto begun = client.read_past("begun");
  bool finished = false;
  std::thread drain([&] { finished = f.server->drain(); });
  f.engine.num_drains.wait(0);
  CHECK(late.request("GET", "/health").status == 200);
  CHECK(late.request("GET", "/ready").status == 503);
  CHECK(late.post("/v1/chat/completions", question).status == 503);
  go_on = true;
  go_on.notify_all();
  drain.join();
  CHECK(finished);
  CHECK(client.read_past("[DONE]").find(" and ended") != std::string::npos);
  CHECK(late.at_end());
}

TEST_CASE("requests damaged at random do no harm", "[server][e2e]") {
  fixture f(say({"ok"}));
  const auto body = streaming().dump();
  const std::string good =
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
      "Content-Type: application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  std::minstd_rand random(7);
  for (int round = 0; round < 1000; ++round) {
    auto bad = good;
    for (auto damages = 1 + random() % 4; damages > 0; --damages)
      bad[random() % bad.size()] = static_cast<char>(random());
    if (round % 3 == 0) bad.resize(random() % bad.size());
    http_client client(f.port());
    client.send(bad);
    if (round % 2 == 0) client.reset();
  }
  http_client client(f.port());
  CHECK(client.post("/v1/chat/completions", question).status == 200);
}

TEST_CASE("admin routes take the key of the file and nothing else", "[server][e2e]") {
  const auto file =
      std::filesystem::temp_directory_path() / ("quire_admin_key_" + std::to_string(::getpid()));
  std::ofstream(file) << "  secret-1\n";
  server_options options;
  options.admin_key_file = file.string();
  fixture f(say({}), options);
  http_client client(f.port());
  const auto status_with = [&](std::string_view header) {
    return client.request("POST", "/v1/engine/check", "", header).status;
  };
  CHECK(status_with("") == 401);
  CHECK(status_with("Authorization: Bearer secret-2\r\n") == 401);
  CHECK(status_with("Authorization: Bearer secret-11\r\n") == 401);
  CHECK(status_with("Authorization: Basic secret-1\r\n") == 401);
  CHECK(status_with("Authorization: secret-1\r\n") == 401);
  CHECK(status_with("Authorization: Bearer secret-1\r\n") == 200);
  CHECK(status_with("authorization: bearer secret-1\r\n") == 200);
  f.engine.defect = "page 3 is neither used nor free";
  const auto broken =
      client.request("POST", "/v1/engine/check", "", "Authorization: Bearer secret-1\r\n");
  CHECK(broken.json() == json{{"ok", false}, {"defect", "page 3 is neither used nor free"}});
  std::filesystem::remove(file);
}

TEST_CASE("admin routes are closed without a key, and a bad key file is refused", "[server][e2e]") {
  fixture f(say({}));
  http_client client(f.port());
  const auto answer = client.request("POST", "/v1/engine/check", "", "Authorization: Bearer \r\n");
  CHECK(answer.status == 403);
  CHECK(answer.json()["error"]["type"] == "permission_error");
  server_options options;
  options.port = 0;
  options.admin_key_file = "/no/such/file";
  fake_engine engine(say({}));
  CHECK(http_server::start(options, engine).error().code == errc::io_error);
  options.admin_key_file = "/dev/null";
  CHECK(http_server::start(options, engine).error().code == errc::invalid_argument);
}

TEST_CASE("a port in use is a clear error", "[server][e2e]") {
  fixture f(say({}));
  server_options options;
  options.port = f.port();
  fake_engine engine(say({}));
  const auto second = http_server::start(options, engine);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == errc::io_error);
  CHECK(second.error().message.find(std::to_string(f.port())) != std::string::npos);
  CHECK(second.error().message.find("another program") != std::string::npos);
}

TEST_CASE("options that are not implemented are refused at start", "[server][e2e]") {
  fake_engine engine(say({}));
  server_options options;
  options.port = 0;
  options.tls_cert = "cert.pem";
  CHECK(http_server::start(options, engine).error().code == errc::unsupported);
  options.tls_cert.clear();
  options.api_keys_file = "keys";
  CHECK(http_server::start(options, engine).error().code == errc::unsupported);
  options.api_keys_file.clear();
  options.host = "no such host";
  CHECK(http_server::start(options, engine).error().code == errc::io_error);
}
