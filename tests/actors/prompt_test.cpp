#include "actors/prompt.hpp"

#include "actors/request_plan.hpp"
#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using quire::testing::byte_tokenizer;

namespace {

generation_request chat_request() {
  generation_request asked;
  asked.prompt = chat_prompt{{{"messages", {{{"role", "user"}, {"content", "hi"}}}}}};
  return asked;
}

std::vector<token_id> tokens_of(std::string_view text, bool bos) {
  const byte_tokenizer plain;
  auto tokens = plain.encode(text, {});
  if (bos) tokens.insert(tokens.begin(), byte_tokenizer::bos_token);
  return tokens;
}

result<request_plan> plan(generation_request asked, std::size_t prompt_tokens,
                          request_bounds bounds = {100, 4, 64}) {
  return plan_request(request_id{1}, asked,
                      std::make_shared<const std::vector<token_id>>(prompt_tokens), bounds);
}

}  // namespace

TEST_CASE("a template that writes the beginning token gets no second one", "[actors]") {
  const auto with_bos = chat_template::parse("{{ bos_token }}{{ messages[0].content }}");
  const auto without = chat_template::parse("{{ messages[0].content }}");
  REQUIRE(with_bos.has_value());
  REQUIRE(without.has_value());
  CHECK(build_prompt(chat_request(), byte_tokenizer(true), &*with_bos) == tokens_of("hi", true));
  CHECK(build_prompt(chat_request(), byte_tokenizer(true), &*without) == tokens_of("hi", true));
  CHECK(build_prompt(chat_request(), byte_tokenizer(false), &*without) == tokens_of("hi", false));
}

TEST_CASE("the answer's beginning is asked for unless the caller says no", "[actors]") {
  const auto asks = chat_template::parse("{% if add_generation_prompt %}A:{% else %}-{% endif %}");
  REQUIRE(asks.has_value());
  CHECK(build_prompt(chat_request(), byte_tokenizer(), &*asks) == tokens_of("A:", false));
  auto no = chat_request();
  std::get<chat_prompt>(no.prompt).variables["add_generation_prompt"] = false;
  CHECK(build_prompt(no, byte_tokenizer(), &*asks) == tokens_of("-", false));
}

TEST_CASE("prompts that cannot be are refused with their reason", "[actors]") {
  const byte_tokenizer vocabulary;
  CHECK(build_prompt(chat_request(), vocabulary, nullptr).error().code == errc::unsupported);
  generation_request asked;
  asked.prompt = text_prompt{""};
  CHECK(build_prompt(asked, vocabulary, nullptr).error().code == errc::invalid_argument);
  asked.prompt = std::vector<token_id>{token_id{258}};
  CHECK(build_prompt(asked, vocabulary, nullptr).error().code == errc::invalid_argument);
  asked.prompt = std::vector<token_id>{token_id{257}};
  CHECK(build_prompt(asked, vocabulary, nullptr).has_value());
}

TEST_CASE("a text prompt gets the beginning token that the model wants", "[actors]") {
  generation_request asked;
  asked.prompt = text_prompt{"<s>x", false};
  CHECK(build_prompt(asked, byte_tokenizer(true), nullptr) == tokens_of("<s>x", true));
}

TEST_CASE("a budget covers prompt and output but for the last token", "[actors]") {
  generation_request asked;
  asked.max_tokens = 7;
  const auto planned = plan(asked, 10);
  REQUIRE(planned.has_value());
  CHECK(planned->terms.sequence_tokens == 16);
  CHECK(planned->terms.max_cached_tokens == 9);
  CHECK(planned->prefill_end == 10);
  CHECK(planned->max_new_tokens == 7);
}

TEST_CASE("what exceeds the context is refused with both numbers", "[actors]") {
  generation_request asked;
  asked.max_tokens = 91;
  const auto planned = plan(asked, 10);
  REQUIRE_FALSE(planned.has_value());
  CHECK(planned.error().code == errc::context_length_exceeded);
  CHECK(planned.error().numbers == std::array<std::uint64_t, 2>{101, 100});
  asked.max_tokens = 90;
  CHECK(plan(asked, 10).has_value());
  asked.max_tokens = 0;
  CHECK(plan(asked, 100).error().numbers == std::array<std::uint64_t, 2>{101, 100});
}

TEST_CASE("without max_tokens the context or the pool is the limit", "[actors]") {
  generation_request asked;
  CHECK(plan(asked, 10)->max_new_tokens == 90);
  CHECK(plan(asked, 10, {1000, 4, 8})->max_new_tokens == 32 + 1 - 10);
  asked.num_choices = 2;  // without max_tokens each has a budget of its own
  CHECK(plan(asked, 10, {1000, 4, 8})->max_new_tokens == 32 + 1 - 10);
}

TEST_CASE("scoring computes what it scores and generates nothing", "[actors]") {
  generation_request asked;
  asked.score_only = true;
  CHECK(plan(asked, 10).error().code == errc::invalid_argument);
  asked.prompt_logprobs_from = 5;
  const auto planned = plan(asked, 100);
  REQUIRE(planned.has_value());
  CHECK(planned->terms.sequence_tokens == 99);
  CHECK(planned->terms.max_cached_tokens == 4);
  CHECK(planned->prefill_end == 99);
  CHECK(planned->max_new_tokens == 0);
}
