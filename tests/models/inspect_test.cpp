#include "models/inspect.hpp"

#include <array>
#include <limits>
#include <string>

#include "tests/support/catch.hpp"
#include "tests/support/small_vocabulary.hpp"

using namespace quire;
using namespace quire::testing;

namespace {

constexpr std::array<std::uint64_t, 2> matrix{32, 3};

/// Whether one of the sentences about what is missing has a part.
bool misses(const model_report& report, std::string_view part) {
  for (const auto& sentence : report.missing)
    if (sentence.find(part) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_CASE("a report totals the tensors by type", "[models][inspect]") {
  const auto bytes = gguf_writer()
                         .add_string("general.architecture", "llama")
                         .add_tensor("a", matrix, 0, std::string(384, 'x'))
                         .add_tensor("b", matrix, 0, std::string(384, 'x'))
                         .add_tensor("c", matrix, 8, std::string(102, 'x'))
                         .bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  const auto report = inspect_model(*file);
  CHECK(report.architecture == "llama");
  CHECK(report.num_parameters == 3 * 96);
  REQUIRE(report.types.size() == 2);
  CHECK(report.types[0].name == "F32");
  CHECK(report.types[0].supported);
  CHECK(report.types[0].num_tensors == 2);
  CHECK(report.types[0].num_values == 192);
  CHECK(report.types[0].size_bytes == 768);
  CHECK(report.types[1].name == "Q8_0");
  CHECK(report.types[1].size_bytes == 102);
}

TEST_CASE("a report names all that is missing", "[models][inspect]") {
  const auto bytes = gguf_writer()
                         .add_string("general.architecture", "perceptron")
                         .add_string("tokenizer.ggml.model", "bert")
                         .add_string("tokenizer.chat_template", "{% if %}")
                         .add_tensor("a", matrix, 4711, "")
                         .bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  const auto report = inspect_model(*file);
  CHECK_FALSE(report.supported());
  CHECK(report.missing.size() == 4);
  CHECK(misses(report, "perceptron"));
  CHECK(misses(report, "tensor type 4711 of 1 tensors"));
  CHECK(misses(report, "'bert'"));
  CHECK(misses(report, "chat template: "));
  const auto text = to_text(*file, report);
  CHECK(text.find("not supported:\n- ") != std::string::npos);
}

TEST_CASE("a vocabulary alone is a vocabulary alone", "[models][inspect]") {
  const auto bytes = byte_level_vocabulary({}).writer().bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  CHECK(misses(inspect_model(*file), "only a vocabulary"));
}

TEST_CASE("a report as JSON shows every kind of value", "[models][inspect]") {
  const auto bytes = gguf_writer()
                         .add_string("text", "a\n\xff")
                         .add_i32("negative", -5)
                         .add_bool("flag", true)
                         .add_f32("infinite", std::numeric_limits<float>::infinity())
                         .add_i32s("numbers", std::vector<std::int32_t>{-1, 2, 3, 4, 5, 6, 7})
                         .add_strings("words", std::vector<std::string>{"x", "y"})
                         .add_tensor("weights", matrix, 0, std::string(384, 'x'))
                         .bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  const auto report = to_json(*file, inspect_model(*file));
  CHECK(report["format"] == "GGUF v3");
  CHECK(report["file_bytes"] == bytes.size());
  CHECK(report["supported"] == false);
  CHECK(report["metadata"]["negative"] == -5);
  CHECK(report["metadata"]["flag"] == true);
  CHECK(report["metadata"]["infinite"] == "inf");
  CHECK(report["metadata"]["numbers"]["element"] == "int32");
  CHECK(report["metadata"]["numbers"]["count"] == 7);
  CHECK(report["metadata"]["numbers"]["first"] == std::vector<int>{-1, 2, 3, 4, 5, 6});
  CHECK(report["metadata"]["words"]["first"] == std::vector<std::string>{"x", "y"});
  CHECK(report["tensors"][0]["name"] == "weights");
  CHECK(report["tensors"][0]["shape"] == std::vector<int>{32, 3});
  CHECK(report["tensors"][0]["bytes"] == 384);
  CHECK(report["tensor_types"]["F32"]["values"] == 96);
}

TEST_CASE("text for people holds nothing that steers a terminal", "[models][inspect]") {
  const auto bytes = gguf_writer()
                         .add_string("k\x1b[2J", "v\x1b[31m\xff")
                         .add_string("long", std::string(5000, 'z'))
                         .add_tensor("t\x07", matrix, 0, std::string(384, 'x'))
                         .bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  const auto text = to_text(*file, inspect_model(*file));
  for (const char c : text) REQUIRE((c == '\n' || (c >= ' ' && c <= '~')));
  CHECK(text.find("(5000 bytes)") != std::string::npos);
  CHECK(text.find("32 x 3") != std::string::npos);
  CHECK(text.size() < 2000);
}
