// What bodies are taken and how they are understood. Expectations: OpenAI's API reference and the
// contract of quire's HTTP surface.
#include "server/openai_request.hpp"

#include <nlohmann/json.hpp>
#include <random>

#include "server/json_body.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fake_engine.hpp"

using namespace quire;
using json = nlohmann::ordered_json;

namespace {

struct fixture {
  fake_engine engine{say({})};
  served_model served{{"alias"}, {}};
  call_limits limits{&engine, &served};

  api_result<openai_call> chat(const json& extra) {
    json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}};
    if (!extra.is_null()) body.update(extra);
    return read_chat_call(body, limits);
  }
  api_result<openai_call> text(const json& extra) {
    json body = {{"prompt", "hi"}};
    if (!extra.is_null()) body.update(extra);
    return read_text_call(body, limits);
  }
};

json message(const json& content, const char* role = "user") {
  return {{"role", role}, {"content", content}};
}

const json& variables(const openai_call& call) {
  return std::get<chat_prompt>(call.prompts.at(0).prompt).variables;
}

}  // namespace

TEST_CASE("a chat request without options takes the configured defaults", "[server]") {
  fixture f;
  f.served.sampling.temperature = 0.3f;
  const auto call = f.chat({});
  REQUIRE(call);
  const auto& request = call->prompts.at(0);
  CHECK(call->model == "fake-model");
  CHECK(request.sampling.temperature == 0.3f);
  CHECK(request.sampling.top_k == 40);
  CHECK(request.max_tokens == 0);
  CHECK(request.num_choices == 1);
  CHECK_FALSE(call->stream);
  CHECK(variables(*call)["add_generation_prompt"] == true);
}

TEST_CASE("requests without a seed differ in their seeds", "[server]") {
  fixture f;
  CHECK(f.chat({})->prompts[0].sampling.seed != f.chat({})->prompts[0].sampling.seed);
  CHECK(f.chat({{"seed", 7}})->prompts[0].sampling.seed == 7);
  CHECK(f.chat({{"seed", -1}})->prompts[0].sampling.seed == ~std::uint64_t{0});
}

TEST_CASE("every sampling field reaches the engine", "[server]") {
  fixture f;
  const auto call = f.chat({{"temperature", 0.5},
                            {"top_p", 0.25},
                            {"top_k", 3},
                            {"min_p", 0.125},
                            {"repetition_penalty", 1.5},
                            {"presence_penalty", -1},
                            {"frequency_penalty", 2},
                            {"logit_bias", {{"65", -100}, {"66", 2.5}}},
                            {"logprobs", true},
                            {"top_logprobs", 4},
                            {"ignore_eos", true},
                            {"cache_prompt", false},
                            {"priority", -3},
                            {"deadline_ms", 1500},
                            {"n", 3},
                            {"user", "ada"},
                            {"max_tokens", 5},
                            {"max_completion_tokens", 9},
                            {"stop", {"a", "bc"}}});
  REQUIRE(call);
  const auto& request = call->prompts.at(0);
  CHECK(request.sampling.temperature == 0.5f);
  CHECK(request.sampling.top_p == 0.25f);
  CHECK(request.sampling.top_k == 3);
  CHECK(request.sampling.min_p == 0.125f);
  CHECK(request.sampling.repetition_penalty == 1.5f);
  CHECK(request.sampling.presence_penalty == -1.0f);
  CHECK(request.sampling.frequency_penalty == 2.0f);
  CHECK(request.sampling.logit_bias ==
        std::vector<std::pair<token_id, float>>{{token_id{65}, -100.0f}, {token_id{66}, 2.5f}});
  CHECK(request.sampling.logprobs);
  CHECK(request.sampling.top_logprobs == 4);
  CHECK(request.ignore_eos);
  CHECK_FALSE(request.use_prefix_cache);
  CHECK(request.priority == -3);
  CHECK(request.deadline == std::chrono::milliseconds(1500));
  CHECK(request.num_choices == 3);
  CHECK(request.user == "ada");
  CHECK(request.max_tokens == 9);
  CHECK(request.stop == std::vector<std::string>{"a", "bc"});
}

TEST_CASE("the other servers' names for fields are understood", "[server]") {
  fixture f;
  CHECK(f.chat({{"repeat_penalty", 1.25}})->prompts[0].sampling.repetition_penalty == 1.25f);
  CHECK(f.chat({{"top_k", -1}})->prompts[0].sampling.top_k == 0);
}

TEST_CASE("null means not given and unknown fields are ignored", "[server]") {
  fixture f;
  const auto call = f.chat({{"temperature", nullptr},
                            {"stop", nullptr},
                            {"model", nullptr},
                            {"n", nullptr},
                            {"tools", nullptr},
                            {"never_heard_of", {1, 2}}});
  REQUIRE(call);
  CHECK(call->prompts[0].sampling.temperature == 0.8f);
  CHECK(call->prompts[0].stop.empty());
}

TEST_CASE("fields of a wrong type or out of range are refused by name", "[server]") {
  fixture f;
  struct row {
    json extra;
    std::string param;
  };
  const std::vector<row> rows{
      {{{"temperature", -0.1}}, "temperature"},
      {{{"temperature", 2.5}}, "temperature"},
      {{{"temperature", "hot"}}, "temperature"},
      {{{"temperature", true}}, "temperature"},
      {{{"top_p", 1.5}}, "top_p"},
      {{{"top_k", -2}}, "top_k"},
      {{{"top_k", 1.5}}, "top_k"},
      {{{"min_p", -1}}, "min_p"},
      {{{"repetition_penalty", 0}}, "repetition_penalty"},
      {{{"presence_penalty", 3}}, "presence_penalty"},
      {{{"frequency_penalty", -2.5}}, "frequency_penalty"},
      {{{"n", 0}}, "n"},
      {{{"n", 129}}, "n"},
      {{{"n", "1"}}, "n"},
      {{{"max_tokens", 0}}, "max_tokens"},
      {{{"max_tokens", -5}}, "max_tokens"},
      {{{"max_tokens", 1e20}}, "max_tokens"},
      {{{"max_completion_tokens", 0.5}}, "max_completion_tokens"},
      {{{"stream", "yes"}}, "stream"},
      {{{"stream_options", 1}}, "stream_options"},
      {{{"stream_options", {{"include_usage", 1}}}}, "stream_options.include_usage"},
      {{{"stop", 5}}, "stop"},
      {{{"stop", ""}}, "stop"},
      {{{"stop", {"a", 1}}}, "stop"},
      {{{"seed", 1.5}}, "seed"},
      {{{"seed", "x"}}, "seed"},
      {{{"logit_bias", {1, 2}}}, "logit_bias"},
      {{{"logit_bias", {{"258", 1}}}}, "logit_bias"},
      {{{"logit_bias", {{"x", 1}}}}, "logit_bias"},
      {{{"logit_bias", {{"5", 101}}}}, "logit_bias"},
      {{{"logprobs", 1}}, "logprobs"},
      {{{"top_logprobs", 5}}, "top_logprobs"},
      {{{"logprobs", true}, {"top_logprobs", 21}}, "top_logprobs"},
      {{{"ignore_eos", 1}}, "ignore_eos"},
      {{{"priority", 0.5}}, "priority"},
      {{{"deadline_ms", 0}}, "deadline_ms"},
      {{{"user", 7}}, "user"},
      {{{"metadata", "x"}}, "metadata"},
      {{{"model", 7}}, "model"},
      {{{"tools", "x"}}, "tools"},
      {{{"tool_choice", 1}}, "tool_choice"},
      {{{"tool_choice", "sometimes"}}, "tool_choice"},
      {{{"chat_template_kwargs", 1}}, "chat_template_kwargs"},
      {{{"add_generation_prompt", 1}}, "add_generation_prompt"},
      {{{"response_format", "json"}}, "response_format"},
      {{{"messages", "hi"}}, "messages"},
      {{{"messages", json::array()}}, "messages"},
      {{{"messages", nullptr}}, "messages"},
      {{{"messages", {1}}}, "messages[0]"},
      {{{"messages", {{{"content", "x"}}}}}, "messages[0].role"},
      {{{"messages", {message("x", "robot")}}}, "messages[0].role"},
      {{{"messages", {{{"role", "user"}}}}}, "messages[0].content"},
      {{{"messages", {message("x"), message(5)}}}, "messages[1].content"},
      {{{"messages", {message(json::array())}}}, "messages[0].content"},
      {{{"messages", {message({"x"})}}}, "messages[0].content[0]"},
      {{{"messages", {message({{{"type", "text"}}})}}}, "messages[0].content[0].text"},
  };
  for (const auto& [extra, param] : rows) {
    INFO(extra.dump());
    const auto call = f.chat(extra);
    REQUIRE_FALSE(call);
    CHECK(call.error().status == 400);
    CHECK(call.error().type == "invalid_request_error");
    CHECK(call.error().code == "invalid_value");
    CHECK(call.error().param == param);
    CHECK(call.error().message.find(param.substr(0, 4)) != std::string::npos);
  }
}

TEST_CASE("what is understood but missing is refused by name", "[server]") {
  fixture f;
  const json image = {{"type", "image_url"}, {"image_url", {{"url", "data:"}}}};
  const json text = {{"type", "text"}, {"text", "what is this?"}};
  const std::vector<std::pair<json, std::string>> rows{
      {{{"messages", {message({text, image})}}}, "messages[0].content[1].type"},
      {{{"response_format", {{"type", "json_object"}}}}, "response_format"},
      {{{"tool_choice", "required"}}, "tool_choice"},
      {{{"tool_choice", {{"type", "function"}}}}, "tool_choice"},
      {{{"guided_json", "{}"}}, "guided_json"},
      {{{"grammar", "root ::= x"}}, "grammar"},
  };
  for (const auto& [extra, param] : rows) {
    INFO(extra.dump());
    const auto call = f.chat(extra);
    REQUIRE_FALSE(call);
    CHECK(call.error().status == 400);
    CHECK(call.error().code == "unsupported_parameter");
    CHECK(call.error().param == param);
  }
  CHECK(f.text({{"suffix", "end"}}).error().param == "suffix");
  CHECK(f.text({{"best_of", 2}}).error().code == "unsupported_parameter");
  CHECK(f.text({{"n", 2}, {"best_of", 1}}).error().code == "invalid_value");
  CHECK(f.text({{"n", 2}, {"best_of", 2}}));
}

TEST_CASE("contents become text and tool messages pass as they are", "[server]") {
  fixture f;
  const json calls = {{{"id", "1"}, {"function", {{"name", "f"}, {"arguments", "{}"}}}}};
  const json tools = {{{"type", "function"}, {"function", {{"name", "f"}}}}};
  const json parts = {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}};
  const auto call = f.chat({{"tools", tools},
                            {"messages",
                             {message("be brief", "developer"),
                              message(parts),
                              message(nullptr),
                              {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", calls}},
                              {{"role", "tool"}, {"content", "42"}, {"tool_call_id", "1"}}}}});
  REQUIRE(call);
  const auto& messages = variables(*call)["messages"];
  CHECK(messages[0]["role"] == "system");
  CHECK(messages[1]["content"] == "a\nb");
  CHECK(messages[2]["content"] == "");
  CHECK(messages[3]["content"].is_null());
  CHECK(messages[3]["tool_calls"] == calls);
  CHECK(messages[4]["tool_call_id"] == "1");
  CHECK(variables(*call)["tools"] == tools);
  CHECK_FALSE(variables(*f.chat({{"tools", tools}, {"tool_choice", "none"}})).contains("tools"));
}

TEST_CASE("template arguments reach the template and cannot replace the messages", "[server]") {
  fixture f;
  const auto call = f.chat({{"chat_template_kwargs", {{"enable_thinking", false}, {"messages", 1}}},
                            {"add_generation_prompt", false}});
  REQUIRE(call);
  CHECK(variables(*call)["enable_thinking"] == false);
  CHECK(variables(*call)["messages"].is_array());
  CHECK(variables(*call)["add_generation_prompt"] == false);
}

TEST_CASE("the last message can be continued instead of answered", "[server]") {
  fixture f;
  f.engine.set_template(
      "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}"
      "{% if add_generation_prompt %}[assistant] {% endif %}");
  json extra = {{"messages", {message("a?"), message("Once upon", "assistant")}},
                {"continue_final_message", true}};
  const auto prompt_of = [](const openai_call& call) {
    return testing::byte_tokenizer().decode(
        std::get<std::vector<token_id>>(call.prompts.at(0).prompt), true);
  };
  auto call = f.chat(extra);
  REQUIRE(call);
  CHECK(prompt_of(*call) == "[user] a?</s>[assistant] Once upon");

  extra["messages"][1]["content"] = "  Once upon ";  // the template trims it
  CHECK(prompt_of(*f.chat(extra)) == "[user] a?</s>[assistant] Once upon");

  extra["add_generation_prompt"] = true;
  CHECK(f.chat(extra).error().param == "continue_final_message");
  extra.erase("add_generation_prompt");
  extra["messages"][1]["content"] = " ";
  CHECK(f.chat(extra).error().param == "continue_final_message");

  f.engine.set_template("{{ messages[0].content | upper }}");
  extra["messages"][1]["content"] = "text";
  CHECK(f.chat(extra).error().param == "continue_final_message");
}

TEST_CASE("models are known by id, alias or not being named", "[server]") {
  fixture f;
  CHECK(f.chat({{"model", "fake-model"}})->model == "fake-model");
  CHECK(f.chat({{"model", "alias"}})->model == "alias");
  CHECK(f.chat({{"model", ""}})->model == "fake-model");
  const auto unknown = f.chat({{"model", "gpt-4o"}});
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().status == 404);
  CHECK(unknown.error().type == "not_found_error");
  CHECK(unknown.error().code == "model_not_found");
  CHECK(unknown.error().param == "model");
}

TEST_CASE("completions take prompts in every shape", "[server]") {
  fixture f;
  const auto prompt = [&](const char* value) { return f.text({{"prompt", json::parse(value)}}); };
  CHECK(std::get<text_prompt>(prompt(R"("abc")")->prompts.at(0).prompt).text == "abc");
  CHECK(prompt(R"(["a", "b", "c"])")->prompts.size() == 3);
  CHECK(std::get<std::vector<token_id>>(prompt("[1, 2]")->prompts.at(0).prompt) ==
        std::vector<token_id>{token_id{1}, token_id{2}});
  CHECK(prompt("[[1, 2], [3]]")->prompts.size() == 2);
  const std::pair<const char*, const char*> refused[] = {
      {"null", "prompt"},           {"[]", "prompt"},
      {R"({"x": 1})", "prompt"},    {"5", "prompt"},
      {R"([1, "a"])", "prompt[1]"}, {R"(["a", 1])", "prompt[1]"},
      {"[1, 258]", "prompt[1]"},    {"[1, -1]", "prompt[1]"},
      {"[1.5]", "prompt[0]"},       {"[[1], []]", "prompt[1]"},
      {"[true]", "prompt[0]"},      {"[[1, null]]", "prompt[0][1]"},
  };
  for (const auto& [value, param] : refused) {
    INFO(value);
    const auto call = prompt(value);
    REQUIRE_FALSE(call);
    CHECK(call.error().param == param);
  }
  CHECK(f.text({{"prompt", json(std::vector<std::string>(9, "x"))}, {"n", 128}}).error().param ==
        "prompt");
}

TEST_CASE("completions default to sixteen tokens, and zero is for scoring only", "[server]") {
  fixture f;
  CHECK(f.text({})->prompts[0].max_tokens == 16);
  CHECK(f.text({{"max_tokens", 0}}).error().param == "max_tokens");
  const auto scoring = f.text({{"max_tokens", 0}, {"echo", true}, {"logprobs", 1}});
  REQUIRE(scoring);
  CHECK(scoring->drop_output);
  CHECK(scoring->prompts[0].score_only);
  CHECK(scoring->prompts[0].prompt_logprobs_from == 1);
  CHECK(scoring->prompts[0].sampling.logprobs);
  CHECK(scoring->echoes.at(0).text == "hi");
  CHECK(scoring->echoes.at(0).tokens.size() == 2);
}

TEST_CASE("bodies damaged at random are taken or refused, never more", "[server]") {
  fixture f;
  const std::string good =
      R"({"model":"alias","messages":[{"role":"system","content":[{"type":"text","text":"a"}]},)"
      R"({"role":"user","content":"b"}],"stop":["x"],"logit_bias":{"65":1.5},"n":2,"seed":-3,)"
      R"("temperature":0.5,"prompt":[[1,2],[3]],"tools":[{"type":"function"}],"top_k":5})";
  const std::string alphabet = "{}[]\",:0129-.eE ntfa\\\x80";
  std::minstd_rand random(5);
  int taken = 0;
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    auto bad = good;
    for (auto damages = 1 + random() % 3; damages > 0; --damages) {
      const auto at = random() % bad.size();
      const char letter = alphabet[random() % alphabet.size()];
      if (random() % 2 == 0)
        bad[at] = letter;
      else
        bad.insert(at, 1, letter);
    }
    const auto body = parse_json_body(bad);
    if (!body) {
      CHECK(body.error().status == 400);
      continue;
    }
    for (auto* read : {&read_chat_call, &read_text_call}) {
      const auto call = read(*body, f.limits);
      ++(call ? taken : refused);
      if (!call) CHECK((call.error().status == 400 || call.error().status == 404));
    }
  }
  CHECK(taken > 100);
  CHECK(refused > 100);
}
