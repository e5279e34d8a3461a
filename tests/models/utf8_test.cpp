#include "models/utf8.hpp"

#include <utf8proc.h>

#include <string>

#include "models/byte_level.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

TEST_CASE("UTF-8 is told from other bytes as utf8proc tells it", "[models][utf8]") {
  // All texts of three bytes out of those that matter, and a fourth.
  const std::string bytes(
      "\x00\x41\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4"
      "\xf5\xff",
      25);
  for (const char a : bytes)
    for (const char b : bytes)
      for (const char c : bytes)
        for (const char d : {'\x41', '\x80', '\xbf'}) {
          const std::string text{a, b, c, d};
          utf8proc_int32_t code_point = 0;
          const auto size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             4, &code_point);
          const auto step = next_utf8(text);
          REQUIRE((step.state == utf8_state::valid) == (size > 0));
          if (size > 0) REQUIRE(step.size == static_cast<std::size_t>(size));
        }
}

TEST_CASE("ill-formed bytes are counted by maximal parts", "[models][utf8]") {
  // The table in the Unicode Standard, section 3.9, "U+FFFD for truncated sequences".
  const std::string text = "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41";
  std::vector<std::size_t> sizes;
  for (std::size_t at = 0; at < text.size(); at += sizes.back()) {
    const auto step = next_utf8(std::string_view(text).substr(at));
    sizes.push_back(step.size);
    CHECK((step.state == utf8_state::valid) == (text[at] == 'A'));
  }
  CHECK(sizes == std::vector<std::size_t>{2, 1, 3, 2, 1});
  CHECK(next_utf8("\xf0\x9f\x98").state == utf8_state::truncated);
  CHECK(next_utf8("\xf0\x9f\x98").size == 3);
  CHECK(next_utf8("\xed\xa0").state == utf8_state::invalid);
}

TEST_CASE("whole texts are judged", "[models][utf8]") {
  CHECK(is_utf8(""));
  CHECK(is_utf8("plain text of more than eight bytes, \xc3\xa9 and \xf0\x9f\x98\x80"));
  CHECK_FALSE(is_utf8("plain text of more than eight bytes, \xc3"));
  CHECK_FALSE(is_utf8("\xff plain text"));
}

TEST_CASE("bytes are written as GPT-2 writes them", "[models][utf8]") {
  CHECK(byte_level_character('a') == "a");
  CHECK(byte_level_character(' ') == "\xc4\xa0");   // U+0120
  CHECK(byte_level_character('\n') == "\xc4\x8a");  // U+010A
  CHECK(byte_level_character(0xad) == "\xc5\x83");  // U+0143
  CHECK(byte_level_character(0xff) == "\xc3\xbf");  // U+00FF
  for (unsigned byte = 0; byte < 256; ++byte)
    CHECK(byte_level_decode(byte_level_character(static_cast<unsigned char>(byte))) ==
          std::string(1, static_cast<char>(byte)));
  CHECK_FALSE(byte_level_decode(" "));
  CHECK_FALSE(byte_level_decode("\xe2\x96\x81"));
  CHECK_FALSE(byte_level_decode("\xff"));
}
