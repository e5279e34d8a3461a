// The shapes of answers. Expectations: OpenAI's API reference and the contract of the HTTP surface.
#include "server/openai_response.hpp"

#include <nlohmann/json.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/fake_engine.hpp"

using namespace quire;
using json = nlohmann::ordered_json;

namespace {

const testing::byte_tokenizer vocabulary;

openai_call make_call(api_kind kind, bool stream, std::uint32_t num_choices = 1) {
  openai_call call;
  call.kind = kind;
  call.stream = stream;
  call.num_choices = num_choices;
  call.prompts.resize(1);
  return call;
}

openai_answer make_answer(const openai_call& call) {
  return openai_answer(call, {"id-1", 1234, "m"}, vocabulary);
}

finished_event finish(std::uint32_t choice, finish_reason reason = finish_reason::stop) {
  generation_usage usage;
  usage.prompt_tokens = 7;
  usage.completion_tokens = 3;
  usage.cached_tokens = 4;
  return {choice, reason, usage};
}

sampled_token sampled(char byte, float logprob, std::vector<token_logprob> top = {}) {
  return {token_id{static_cast<unsigned char>(byte)}, logprob, std::move(top)};
}

// The events of a stream; the end mark becomes a string.
std::vector<json> parse_stream(const std::string& bytes) {
  std::vector<json> events;
  std::size_t at = 0;
  for (std::size_t end; (end = bytes.find("\n\n", at)) != std::string::npos; at = end + 2) {
    const auto line = bytes.substr(at, end - at);
    REQUIRE(line.starts_with("data: "));
    const auto data = line.substr(6);
    events.push_back(data == "[DONE]" ? json(data) : json::parse(data));
  }
  CHECK(at == bytes.size());
  return events;
}

}  // namespace

TEST_CASE("a chat stream is role, content, finish, usage, done", "[server]") {
  auto call = make_call(api_kind::chat, true);
  call.include_usage = true;
  auto answer = make_answer(call);
  std::string out;
  answer.take(0, admitted_event{7}, out);
  CHECK(answer.admitted());
  CHECK(out.empty());  // the status line still waits
  answer.take(0, delta_event{0, "Hel", {}}, out);
  answer.take(0, delta_event{0, "lo", {}}, out);
  CHECK_FALSE(answer.complete());
  answer.take(0, finish(0, finish_reason::length), out);
  REQUIRE(answer.complete());
  answer.append_end(out);
  const auto events = parse_stream(out);
  REQUIRE(events.size() == 6);
  CHECK(events[0]["choices"][0]["delta"] == json{{"role", "assistant"}, {"content", ""}});
  CHECK(events[1]["choices"][0]["delta"] == json{{"content", "Hel"}});
  CHECK(events[2]["choices"][0]["delta"] == json{{"content", "lo"}});
  CHECK(events[3]["choices"][0]["delta"] == json::object());
  CHECK(events[3]["choices"][0]["finish_reason"] == "length");
  CHECK(events[4]["choices"] == json::array());
  CHECK(events[4]["usage"] == json{{"prompt_tokens", 7},
                                   {"completion_tokens", 3},
                                   {"total_tokens", 10},
                                   {"prompt_tokens_details", {{"cached_tokens", 4}}}});
  CHECK(events[5] == "[DONE]");
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(events[i]["id"] == "id-1");
    CHECK(events[i]["created"] == 1234);
    CHECK(events[i]["model"] == "m");
    CHECK(events[i]["object"] == "chat.completion.chunk");
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(events[i]["usage"].is_null());
  CHECK(events[1]["choices"][0]["finish_reason"].is_null());
}

TEST_CASE("without include_usage no chunk mentions usage", "[server]") {
  auto answer = make_answer(make_call(api_kind::chat, true));
  std::string out;
  answer.take(0, finish(0), out);
  answer.append_end(out);
  const auto events = parse_stream(out);
  REQUIRE(events.size() == 3);  // role, finish, done: an empty answer is complete too
  CHECK_FALSE(events[0].contains("usage"));
}

TEST_CASE("several choices interleave by index and add up in usage", "[server]") {
  auto answer = make_answer(make_call(api_kind::chat, false, 2));
  std::string out;
  answer.take(0, admitted_event{7}, out);
  answer.take(0, delta_event{1, "b", {}}, out);
  answer.take(0, delta_event{0, "a", {}}, out);
  answer.take(0, finish(1), out);
  answer.take(0, delta_event{0, "A", {}}, out);
  answer.take(0, finish(0, finish_reason::length), out);
  REQUIRE(answer.complete());
  CHECK(out.empty());
  const auto body = answer.body();
  CHECK(body["object"] == "chat.completion");
  CHECK(body["choices"][0]["message"]["content"] == "aA");
  CHECK(body["choices"][0]["message"]["role"] == "assistant");
  CHECK(body["choices"][0]["finish_reason"] == "length");
  CHECK(body["choices"][1]["index"] == 1);
  CHECK(body["choices"][1]["message"]["content"] == "b");
  CHECK(body["choices"][1]["finish_reason"] == "stop");
  CHECK(body["usage"]["prompt_tokens"] == 7);
  CHECK(body["usage"]["completion_tokens"] == 6);
  CHECK(body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4);
}

TEST_CASE("choices of several prompts are numbered through", "[server]") {
  auto call = make_call(api_kind::text, false, 2);
  call.prompts.resize(2);
  auto answer = make_answer(call);
  std::string out;
  for (std::size_t prompt = 0; prompt < 2; ++prompt)
    for (std::uint32_t choice = 0; choice < 2; ++choice) {
      answer.take(prompt, delta_event{choice, std::to_string(prompt * 10 + choice), {}}, out);
      answer.take(prompt, finish(choice), out);
    }
  const auto body = answer.body();
  CHECK(body["object"] == "text_completion");
  CHECK(body["choices"][2]["index"] == 2);
  CHECK(body["choices"][2]["text"] == "10");
  CHECK(body["choices"][3]["text"] == "11");
  CHECK(body["usage"]["prompt_tokens"] == 14);
}

TEST_CASE("chat logprobs name token, bytes and alternatives", "[server]") {
  auto call = make_call(api_kind::chat, false);
  call.logprobs = true;
  auto answer = make_answer(call);
  std::string out;
  const token_logprob best{token_id{'a'}, -0.5f};
  const token_logprob impossible{token_id{0xc3}, -std::numeric_limits<float>::infinity()};
  answer.take(0, delta_event{0, "a", {sampled('a', -0.5f, {best, impossible})}}, out);
  answer.take(0, finish(0), out);
  const auto content = answer.body()["choices"][0]["logprobs"]["content"];
  REQUIRE(content.size() == 1);
  CHECK(content[0]["token"] == "a");
  CHECK(content[0]["logprob"] == -0.5);
  CHECK(content[0]["bytes"] == json{97});
  CHECK(content[0]["top_logprobs"][0]["token"] == "a");
  CHECK(content[0]["top_logprobs"][1]["logprob"] == -9999.0);
  CHECK(content[0]["top_logprobs"][1]["bytes"] == json{0xc3});
}

TEST_CASE("text logprobs are lists with offsets into the text", "[server]") {
  auto call = make_call(api_kind::text, true);
  call.logprobs = true;
  auto answer = make_answer(call);
  std::string out;
  answer.take(0, delta_event{0, "a", {sampled('a', -0.5f, {{token_id{'a'}, -0.5f}})}}, out);
  // The two bytes of one letter: the text comes complete, the tokens as bytes.
  answer.take(0, delta_event{0, "\u00e9", {sampled('\xc3', -1.0f), sampled('\xa9', -2.0f)}}, out);
  answer.take(0, delta_event{0, "z", {sampled('z', -3.0f)}}, out);
  const auto events = parse_stream(out);
  REQUIRE(events.size() == 3);
  CHECK(events[0]["choices"][0]["logprobs"] == json{{"tokens", {"a"}},
                                                    {"token_logprobs", {-0.5}},
                                                    {"top_logprobs", {{{"a", -0.5}}}},
                                                    {"text_offset", {0}}});
  CHECK(events[1]["choices"][0]["logprobs"]["tokens"] == json{"bytes:\\xc3", "bytes:\\xa9"});
  CHECK(events[1]["choices"][0]["logprobs"]["text_offset"] == json{1, 2});
  CHECK(events[2]["choices"][0]["logprobs"]["text_offset"] == json{2});
}

TEST_CASE("an echo repeats the prompt and its scores before the output", "[server]") {
  auto call = make_call(api_kind::text, false);
  call.logprobs = true;
  call.echoes = {{"abc", {token_id{'a'}, token_id{'b'}, token_id{'c'}}}};
  auto answer = make_answer(call);
  std::string out;
  answer.take(0, admitted_event{3}, out);
  answer.take(0, prompt_logprobs_event{1, {{token_id{'b'}, token_id{'b'}, -0.25f}}}, out);
  answer.take(0, prompt_logprobs_event{2, {{token_id{'c'}, token_id{'x'}, -4.0f, -0.5f}}}, out);
  answer.take(0, delta_event{0, "d", {sampled('d', -1.0f)}}, out);
  answer.take(0, finish(0), out);
  const auto choice = answer.body()["choices"][0];
  CHECK(choice["text"] == "abcd");
  CHECK(choice["logprobs"]["tokens"] == json{"a", "b", "c", "d"});
  CHECK(choice["logprobs"]["token_logprobs"] == json{nullptr, -0.25, -4.0, -1.0});
  CHECK(choice["logprobs"]["top_logprobs"] ==
        json{nullptr, {{"b", -0.25}}, {{"x", -0.5}, {"c", -4.0}}, json::object()});
  CHECK(choice["logprobs"]["text_offset"] == json{0, 1, 2, 3});
}

TEST_CASE("the best token of a prompt position is left out where it is not known", "[server]") {
  auto call = make_call(api_kind::text, false);
  call.logprobs = true;
  call.echoes = {{"ab", {token_id{'a'}, token_id{'b'}}}};
  auto answer = make_answer(call);
  std::string out;
  answer.take(0, prompt_logprobs_event{1, {{token_id{'b'}, token_id{'x'}, -4.0f}}}, out);
  answer.take(0, finish(0), out);
  CHECK(answer.body()["choices"][0]["logprobs"]["top_logprobs"] == json{nullptr, nullptr});
}

TEST_CASE("scoring alone gives the prompt back and no output", "[server]") {
  auto call = make_call(api_kind::text, false);
  call.echoes = {{"abc", {}}};
  call.drop_output = true;
  auto answer = make_answer(call);
  std::string out;
  answer.take(0, delta_event{0, "d", {}}, out);
  answer.take(0, finish(0), out);
  CHECK(answer.body()["choices"][0]["text"] == "abc");
  CHECK(answer.body()["choices"][0]["finish_reason"] == "length");
  CHECK(answer.body()["usage"]["completion_tokens"] == 0);
}

TEST_CASE("a failure is kept and ends the answer", "[server]") {
  auto answer = make_answer(make_call(api_kind::chat, true));
  std::string out;
  answer.take(0, failed_event{{errc::queue_full, "full", {250, 0}}}, out);
  REQUIRE(answer.failure());
  CHECK(answer.failure()->code == errc::queue_full);
  answer.take(0, delta_event{0, "late", {}}, out);
  CHECK(out.empty());
}

TEST_CASE("a generation that the server cancels is a failure to the client", "[server]") {
  auto answer = make_answer(make_call(api_kind::chat, false));
  std::string out;
  answer.take(0, finish(0, finish_reason::cancelled), out);
  REQUIRE(answer.failure());
  CHECK(answer.failure()->code == errc::unavailable);
  CHECK_FALSE(answer.complete());
}
