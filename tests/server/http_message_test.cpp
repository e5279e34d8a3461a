#include "server/http_message.hpp"

#include "server/json_body.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("every error code of the engine has its place in the contract", "[server]") {
  struct row {
    errc code;
    int status;
    std::string type;
    std::string name;
  };
  const std::vector<row> rows{
      {errc::invalid_argument, 400, "invalid_request_error", "invalid_value"},
      {errc::unsupported, 400, "invalid_request_error", "unsupported_parameter"},
      {errc::context_length_exceeded, 400, "invalid_request_error", "context_length_exceeded"},
      {errc::queue_full, 429, "rate_limit_error", "queue_full"},
      {errc::not_found, 404, "not_found_error", "not_found"},
      {errc::unavailable, 503, "server_error", "unavailable"},
      {errc::deadline_exceeded, 504, "server_error", "deadline_exceeded"},
      {errc::internal, 500, "server_error", "internal_error"},
      {errc::out_of_pages, 500, "server_error", "internal_error"},
      {errc::invalid_file, 500, "server_error", "internal_error"},
  };
  for (const auto& [code, status, type, name] : rows) {
    INFO(errc_name(code));
    const auto failure = to_api_error({code, "why", {9, 8}}, "prompt", "req-7");
    CHECK(failure.status == status);
    CHECK(failure.type == type);
    CHECK(failure.code == name);
    const auto object = to_json(failure);
    REQUIRE(object["error"].size() == 4);
    CHECK(object["error"]["message"].is_string());
    CHECK(object["error"]["type"] == type);
    CHECK(object["error"].contains("param"));
    CHECK(object["error"]["code"] == name);
  }
}

TEST_CASE("an overflow names both numbers and blames the prompt", "[server]") {
  const auto failure =
      to_api_error({errc::context_length_exceeded, "x", {5000, 4096}}, "messages", "");
  CHECK(failure.message.find("maximum context length is 4096") != std::string::npos);
  CHECK(failure.message.find("5000") != std::string::npos);
  CHECK(failure.param == "messages");
}

TEST_CASE("internal errors keep their message to the log", "[server]") {
  const auto failure = to_api_error({errc::internal, "secret", {}}, "", "req-7");
  CHECK(failure.message.find("secret") == std::string::npos);
  CHECK(failure.message.find("req-7") != std::string::npos);
}

TEST_CASE("a full queue says when to come back, in seconds and milliseconds", "[server]") {
  const auto reply = error_reply(to_api_error({errc::queue_full, "full", {1250, 0}}, "", ""));
  CHECK(reply.status == 429);
  CHECK(reply.headers == std::vector<std::pair<std::string, std::string>>{
                             {"Retry-After", "2"}, {"retry-after-ms", "1250"}});
}

TEST_CASE("paths come without query, scheme and host", "[server]") {
  CHECK(path_of("/a/b?x=1") == "/a/b");
  CHECK(path_of("http://host:1/a?x") == "/a");
  CHECK(path_of("http://host") == "/");
  CHECK(path_of("/a?u=http://b/c") == "/a");
  CHECK(path_of("*") == "*");
  CHECK(path_of("").empty());
}

TEST_CASE("percent escapes are decoded and broken ones left alone", "[server]") {
  CHECK(percent_decode("a%2Fb%20c") == "a/b c");
  CHECK(percent_decode("%zz%4") == "%zz%4");
  CHECK(percent_decode("100%") == "100%");
}

TEST_CASE("request ids are echoed when they are fit for a header", "[server]") {
  CHECK(choose_request_id("abc-1") == "abc-1");
  CHECK(choose_request_id("a b") != "a b");
  CHECK(choose_request_id(std::string(200, 'x')).size() < 60);
  CHECK(choose_request_id("") != choose_request_id(""));
}

TEST_CASE("chunks carry their size in hexadecimal and empty ones are not sent", "[server]") {
  std::string out;
  append_chunk(out, "");
  CHECK(out.empty());
  append_chunk(out, std::string(26, 'x'));
  CHECK(out == "1a\r\n" + std::string(26, 'x') + "\r\n");
}

TEST_CASE("malformed JSON is refused with the byte", "[server]") {
  const auto refused = [](std::string_view body) {
    const auto value = parse_json_body(body);
    REQUIRE_FALSE(value);
    CHECK(value.error().status == 400);
    return value.error();
  };
  const auto failure = refused(R"({"a": 1,, "b": 2})");
  CHECK(failure.code == "invalid_json");
  CHECK(failure.message.find("byte 9") != std::string::npos);
  CHECK(refused("").code == "invalid_json");
  CHECK(refused("{").code == "invalid_json");
  CHECK(refused("{\"a\": \"\xff\"}").code == "invalid_json");
  CHECK(refused("{\"a\": 1e999}").code == "invalid_json");
  CHECK(refused("[1]").code == "invalid_value");
  CHECK(refused("\"text\"").code == "invalid_value");
}

TEST_CASE("hostile JSON is refused before it costs anything", "[server]") {
  CHECK(parse_json_body(std::string(1 << 20, '[')).error().code == "invalid_json");
  CHECK(parse_json_body("{\"a\":" + std::string(100, '{')).error().code == "invalid_json");
  std::string many = "{\"k\":0";
  for (int i = 0; i < 20000; ++i) many += ",\"k" + std::to_string(i) + "\":0";
  CHECK(parse_json_body(many + "}").error().code == "invalid_json");
  CHECK(parse_json_body(R"({"brackets in text": "[[[[{{{{\"[[[[\\"})"));
  CHECK(parse_json_body("{\"text\": \"" + std::string(1 << 20, '[') + "\"}"));
}
