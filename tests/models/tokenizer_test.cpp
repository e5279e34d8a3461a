#include "models/tokenizer.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "models/pre_tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/small_vocabulary.hpp"

using namespace quire;
using namespace quire::testing;

namespace {

/// A tokenizer and the file it was read from.
std::unique_ptr<tokenizer> load(const gguf_writer& writer) {
  const auto bytes = writer.bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  auto words = load_tokenizer(*file);
  if (!words) FAIL(words.error().message);
  return std::move(*words);  // the file is gone: a tokenizer keeps what it needs
}

error refusal_of(const gguf_writer& writer) {
  const auto bytes = writer.bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  const auto words = load_tokenizer(*file);
  REQUIRE(!words);
  return words.error();
}

bool refuses(const gguf_writer& writer, errc code, std::string_view part) {
  const auto refusal = refusal_of(writer);
  INFO(refusal.message);
  CHECK(refusal.code == code);
  CHECK(refusal.message.find(part) != std::string::npos);
  return refusal.code == code && refusal.message.find(part) != std::string::npos;
}

std::vector<std::uint32_t> encode(const tokenizer& words, std::string_view text,
                                  encode_options options = {}) {
  std::vector<std::uint32_t> ids;
  for (const auto id : words.encode(text, options)) ids.push_back(to_index(id));
  return ids;
}

using ids = std::vector<std::uint32_t>;
constexpr std::string_view underscore = "\xe2\x96\x81";

}  // namespace

TEST_CASE("merges apply by rank, the leftmost of equals first", "[models][tokenizer]") {
  // Ranks: aa, ab, aab. "aaab": the first aa (256), then nothing joins aa+a; ab joins a+b.
  const auto words = load(byte_level_vocabulary({{"a", "a"}, {"a", "b"}, {"aa", "b"}}).writer());
  CHECK(encode(*words, "aab") == ids{258});
  CHECK(encode(*words, "aaab") == ids{256, 257});
  CHECK(encode(*words, "aaaa") == ids{256, 256});
  CHECK(encode(*words, "aaa") == ids{256, 'a'});
  CHECK(encode(*words, "ba") == ids{'b', 'a'});
  CHECK(encode(*words, "").empty());
}

TEST_CASE("a token that merging does not reach is not used", "[models][tokenizer]") {
  // "abc" is a token by a+bc, but a+b comes first and then nothing joins ab+c.
  const auto vocabulary = byte_level_vocabulary({{"a", "b"}, {"b", "c"}, {"a", "bc"}});
  CHECK(encode(*load(vocabulary.writer()), "abc") == ids{256, 'c'});
  auto whole = vocabulary;  // Llama 3's way takes the whole word
  whole.pre = "llama-bpe";
  CHECK(encode(*load(whole.writer()), "abc") == ids{258});
}

TEST_CASE("a word of a million bytes is merged", "[models][tokenizer]") {
  const auto words = load(byte_level_vocabulary({{"a", "a"}, {"aa", "aa"}}).writer());
  const auto encoded = encode(*words, std::string(1'000'001, 'a'));
  CHECK(encoded.size() == 250'001);
  CHECK(encoded.front() == 257);
  CHECK(encoded.back() == 'a');
}

TEST_CASE("control tokens are read only when asked, user-defined ones always",
          "[models][tokenizer]") {
  auto vocabulary = byte_level_vocabulary({});
  const auto control = vocabulary.add("<c>", control_kind);
  const auto user = vocabulary.add("<u>", user_defined_kind);
  const auto words = load(vocabulary.writer());
  CHECK(encode(*words, "a<u>b<c>") == ids{'a', user, 'b', '<', 'c', '>'});
  CHECK(encode(*words, "a<u>b<c>", {.parse_special = true}) == ids{'a', user, 'b', control});
  CHECK(words->is_control(token_id{control}));
  CHECK_FALSE(words->is_control(token_id{user}));
  CHECK(words->bytes(token_id{control}).empty());
  CHECK(words->bytes(token_id{control}, true) == "<c>");
  CHECK(words->bytes(token_id{user}) == "<u>");
  const auto read = words->encode("a<u>b<c>", {.parse_special = true});
  CHECK(words->decode(read) == "a<u>b");
  CHECK(words->decode(read, true) == "a<u>b<c>");
}

TEST_CASE("BOS and EOS are added where the file says so", "[models][tokenizer]") {
  auto vocabulary = byte_level_vocabulary({});
  const auto bos = vocabulary.add("<bos>", control_kind);
  const auto eos = vocabulary.add("<eos>", control_kind);
  auto writer = vocabulary.writer();
  writer.add_u32("tokenizer.ggml.bos_token_id", bos).add_u32("tokenizer.ggml.eos_token_id", eos);
  const auto silent = load(writer);
  CHECK_FALSE(silent->adds_bos());
  CHECK(encode(*silent, "a", {.add_special = true}) == ids{'a'});
  writer.add_bool("tokenizer.ggml.add_bos_token", true);
  writer.add_bool("tokenizer.ggml.add_eos_token", true);
  const auto words = load(writer);
  CHECK(words->adds_bos());
  CHECK(words->bos() == token_id{bos});
  CHECK(words->eos() == token_id{eos});
  CHECK(encode(*words, "a", {.add_special = true}) == ids{bos, 'a', eos});
  CHECK(encode(*words, "a") == ids{'a'});
  CHECK(words->is_end(token_id{eos}));
  CHECK_FALSE(words->is_end(token_id{bos}));
}

TEST_CASE("generation ends at tokens known by id or by name", "[models][tokenizer]") {
  auto vocabulary = byte_level_vocabulary({});
  const auto turn = vocabulary.add("<|im_end|>", normal_kind);  // files often mark it so
  const auto named = vocabulary.add("<stop>", control_kind);
  const auto harmony_end = vocabulary.add("<|end|>", control_kind);
  vocabulary.add("<|call|>", control_kind);
  vocabulary.add("<|return|>", control_kind);
  auto writer = vocabulary.writer();
  writer.add_u32("tokenizer.ggml.eot_token_id", named);
  const auto words = load(writer);
  CHECK(words->is_end(token_id{turn}));
  CHECK(words->is_control(token_id{turn}));
  CHECK(words->is_end(token_id{named}));
  CHECK_FALSE(words->is_end(token_id{harmony_end}));  // harmony closes a message with it
  CHECK_FALSE(words->is_end(token_id{'a'}));
}

TEST_CASE("ids outside of the vocabulary stand for nothing", "[models][tokenizer]") {
  const auto words = load(byte_level_vocabulary({}).writer());
  CHECK(words->bytes(token_id{256}).empty());
  CHECK(words->piece(token_id{~0U}).empty());
  CHECK_FALSE(words->is_end(token_id{256}));
  CHECK_FALSE(words->is_control(token_id{256}));
  CHECK(words->decode(std::vector{token_id{'a'}, token_id{999}, token_id{'b'}}) == "ab");
}

TEST_CASE("SentencePiece merges by score and falls back to bytes", "[models][tokenizer]") {
  auto vocabulary = sentence_piece_vocabulary();
  const auto space = vocabulary.add(std::string(underscore), normal_kind, -1.0f);
  const auto a = vocabulary.add("a", normal_kind, -2.0f);
  const auto b = vocabulary.add("b", normal_kind, -3.0f);
  const auto ab = vocabulary.add("ab", normal_kind, -5.0f);
  const auto space_a = vocabulary.add(std::string(underscore) + "a", normal_kind, -4.0f);
  const auto words = load(vocabulary.writer());
  // The space before the first word; its join with a scores higher than ab.
  CHECK(encode(*words, "ab") == ids{space_a, b});
  CHECK(encode(*words, "bab") == ids{space, b, ab});
  CHECK(encode(*words, "a  a") == ids{space_a, space, space_a});
  CHECK(encode(*words, "\xc3\xa9") == ids{space, 3 + 0xc3, 3 + 0xa9});
  CHECK(encode(*words, "a", {.add_special = true}) == ids{1, space_a});
  CHECK(encode(*words, "").empty());
  CHECK(words->decode(words->encode("ab \xc3\xa9", {})) == "ab \xc3\xa9");
  CHECK(words->decode(words->encode("  ab", {})) == "  ab");
  // After a special token the text begins anew.
  CHECK(encode(*words, "b</s>a", {.parse_special = true}) == ids{space, b, 2, space_a});
  CHECK(encode(*load(vocabulary.writer().add_bool("tokenizer.ggml.add_space_prefix", false)),
               "ab") == ids{ab});
  CHECK(a != b);
}

TEST_CASE("a token that crosses words keeps SentencePiece's words together",
          "[models][tokenizer]") {
  auto vocabulary = sentence_piece_vocabulary();
  const std::string space(underscore);
  vocabulary.add(space, normal_kind, -1.0f);
  vocabulary.add("a", normal_kind, -2.0f);
  const auto crossing = vocabulary.add("a" + space, normal_kind, -3.0f);
  const auto both = vocabulary.add("a" + space + "a", normal_kind, -4.0f);
  vocabulary.add(space + "a", normal_kind, -5.0f);
  auto writer = vocabulary.writer();
  writer.add_bool("tokenizer.ggml.add_space_prefix", false);
  const auto words = load(writer);
  CHECK(encode(*words, "a a") == ids{both});
  CHECK(encode(*words, "a ") == ids{crossing});
}

TEST_CASE("streamed text never splits a character", "[models][tokenizer]") {
  const auto words = load(byte_level_vocabulary({}).writer());
  detokenizer stream(*words);
  const auto push = [&](unsigned char byte) { return stream.push(token_id{byte}); };
  CHECK(push('a') == "a");
  CHECK(push(0xf0).empty());
  CHECK(push(0x9f).empty());
  CHECK(push(0x98).empty());
  CHECK(push(0x80) == "\xf0\x9f\x98\x80");
  CHECK(push(0xff) == "\xef\xbf\xbd");
  CHECK(push(0xe2).empty());
  CHECK(push('b') ==
        "\xef\xbf\xbd"
        "b");
  CHECK(push(0xe2).empty());
  CHECK(push(0x82).empty());
  CHECK(stream.finish() == "\xef\xbf\xbd");
  CHECK(stream.finish().empty());
}

TEST_CASE("a tokenizer that quire does not know is refused by name", "[models][tokenizer]") {
  CHECK(refuses(gguf_writer(), errc::invalid_file, "tokenizer.ggml.model"));
  CHECK(refuses(gguf_writer().add_string("tokenizer.ggml.model", "bert"), errc::unsupported,
                "'bert'"));
  auto vocabulary = byte_level_vocabulary({});
  vocabulary.pre = "of-the-future";
  CHECK(refuses(vocabulary.writer(), errc::unsupported, "'of-the-future'"));
  CHECK(refuses(vocabulary.writer(), errc::unsupported, "smollm"));
  vocabulary.pre.reset();
  CHECK(refuses(vocabulary.writer(), errc::unsupported, "names no pre-tokenizer"));
}

TEST_CASE("vocabularies that contradict themselves are refused", "[models][tokenizer]") {
  const auto good = byte_level_vocabulary({{"a", "b"}});
  auto bad = good;
  bad.kinds.pop_back();
  CHECK(refuses(bad.writer(), errc::invalid_file, "256 elements for 257 tokens"));
  bad = good;
  bad.kinds[3] = 7;
  CHECK(refuses(bad.writer(), errc::invalid_file, "token 3 has the unknown type 7"));
  bad = good;
  bad.tokens[5] = "a";
  CHECK(refuses(bad.writer(), errc::invalid_file, "same text"));
  bad = good;
  bad.merges->push_back("ab");
  CHECK(refuses(bad.writer(), errc::invalid_file, "merge 1 is not two texts"));
  bad = good;
  bad.merges->push_back("b a");
  CHECK(refuses(bad.writer(), errc::invalid_file, "merge 1 does not join"));
  bad = good;
  bad.merges.reset();
  CHECK(refuses(bad.writer(), errc::invalid_file, "tokenizer.ggml.merges is missing"));
  bad = good;
  bad.tokens.clear();
  bad.kinds.clear();
  CHECK(refuses(bad.writer(), errc::invalid_file, "0 elements"));
  CHECK(refuses(good.writer().add_u32("tokenizer.ggml.eos_token_id", 257), errc::invalid_file,
                "eos_token_id is not the id of one of the 257 tokens"));
  CHECK(refuses(good.writer().add_string("tokenizer.ggml.eot_token_id", "1"), errc::invalid_file,
                "eot_token_id"));
  CHECK(refuses(good.writer().add_bool("tokenizer.ggml.add_bos_token", true), errc::invalid_file,
                "no bos_token_id"));
  CHECK(refuses(good.writer().add_u32("tokenizer.ggml.add_eos_token", 1), errc::invalid_file,
                "not a boolean"));
}

TEST_CASE("SentencePiece vocabularies need scores, and tokens for all bytes",
          "[models][tokenizer]") {
  auto bad = sentence_piece_vocabulary();
  bad.scores[4] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refuses(bad.writer(), errc::invalid_file, "not finite"));
  bad = sentence_piece_vocabulary();
  bad.tokens[3] = "<0xZZ>";
  CHECK(refuses(bad.writer(), errc::invalid_file, "not written as <0xNN>"));
  bad = small_vocabulary();
  bad.model = "llama";
  bad.add("a");
  // Token 0 is the unknown token unless the file says otherwise: "a" stands in for every byte.
  CHECK(encode(*load(bad.writer().add_bool("tokenizer.ggml.add_bos_token", false)), "b") ==
        ids{0, 0, 0, 0});
}

TEST_CASE("words cover the text, whatever its bytes", "[models][tokenizer]") {
  const auto words = pre_tokenizer::make("llama-bpe");
  REQUIRE(words);
  for (const std::string& text :
       {std::string("a b"), std::string("\xff\xfe \x80"), std::string(3, '\0'),
        std::string("\xe2\x82 it's 1234\r\n\r\n  x")}) {
    std::vector<std::uint32_t> ends;
    words->split(text, ends);
    REQUIRE(!ends.empty());
    CHECK(std::is_sorted(ends.begin(), ends.end()));
    CHECK(ends.back() == text.size());
  }
}
