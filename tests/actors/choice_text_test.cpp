#include "actors/choice_text.hpp"

#include "tests/support/byte_tokenizer.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using quire::testing::byte_tokenizer;

namespace {

sampled_token byte(char c) {
  return {token_id{static_cast<unsigned char>(c)}, -1.0f, {}};
}

/// Feeds a text byte by byte; returns all that was told, pieces separated by '|'.
std::string feed(choice_text& choice, std::string_view text) {
  std::string told;
  for (const char c : text)
    if (const auto event = choice.push(byte(c))) told += event->text + "|";
  return told;
}

}  // namespace

TEST_CASE("text that may become a stop string is held back", "[actors]") {
  stop_matcher stops({"END", "EX"});
  CHECK(stops.push("abE") == "ab");
  CHECK(stops.push("N") == "");
  CHECK(stops.push("x") == "ENx");
  CHECK(stops.push("E") == "");
  CHECK(stops.push("END!") == "E");
  CHECK(stops.stopped());
  CHECK(stops.push("more") == "");
  CHECK(stops.finish() == "");
}

TEST_CASE("what was held back comes out at the end", "[actors]") {
  stop_matcher stops({"\n\n", ""});
  CHECK(stops.push("line\n") == "line");
  CHECK(stops.finish() == "\n");
  CHECK_FALSE(stops.stopped());
}

TEST_CASE("the earliest of several stop strings wins", "[actors]") {
  stop_matcher stops({"world", "o w"});
  CHECK(stops.push("hello world") == "hell");
  CHECK(stops.stopped());
}

TEST_CASE("a stop string is found however the text is cut", "[actors]") {
  const std::string text = "aababaabbaba";
  const std::string stop = "abba";
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    stop_matcher stops({stop});
    std::string shown;
    for (std::size_t at = 0; at < text.size() && !stops.stopped(); at += cut)
      shown += stops.push(std::string_view(text).substr(at, cut));
    CHECK(shown == text.substr(0, text.find(stop)));
    CHECK(stops.stopped());
  }
}

TEST_CASE("a character is told when all its bytes are there", "[actors]") {
  const byte_tokenizer vocabulary;
  choice_text choice(vocabulary, 0, {}, false, true);
  CHECK(feed(choice,
             "a\xc3\xa9"
             "b") == "a|\xc3\xa9|b|");
  CHECK_FALSE(choice.push(byte('\xe2')).has_value());
  const auto rest = choice.finish();
  REQUIRE(rest.has_value());
  CHECK(rest->text == "\xef\xbf\xbd");  // U+FFFD
}

TEST_CASE("the end token ends the text and is no part of it", "[actors]") {
  const byte_tokenizer vocabulary;
  choice_text choice(vocabulary, 0, {}, false, true);
  feed(choice, "ab");
  CHECK_FALSE(choice.push({byte_tokenizer::end_token, 0, {}}).has_value());
  CHECK(choice.stopped());
  CHECK(choice.num_tokens() == 3);

  choice_text ignoring(vocabulary, 0, {}, false, false);
  ignoring.push({byte_tokenizer::end_token, 0, {}});
  CHECK_FALSE(ignoring.stopped());
}

TEST_CASE("tokens are told with their text, and those of a stop string never", "[actors]") {
  const byte_tokenizer vocabulary;
  choice_text choice(vocabulary, 3, {"zy"}, true, true);
  const auto first = choice.push(byte('a'));
  REQUIRE(first.has_value());
  CHECK(first->choice == 3);
  CHECK(first->tokens.size() == 1);
  CHECK_FALSE(choice.push(byte('z')).has_value());
  const auto both = choice.push(byte('b'));
  REQUIRE(both.has_value());
  CHECK(both->text == "zb");
  CHECK(both->tokens.size() == 2);
  CHECK_FALSE(choice.push(byte('z')).has_value());
  CHECK_FALSE(choice.push(byte('y')).has_value());
  CHECK(choice.stopped());
  CHECK_FALSE(choice.finish().has_value());
}
