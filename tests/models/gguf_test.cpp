#include "models/gguf.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "models/gguf_parse.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"

using namespace quire;
using quire::testing::as_byte_span;
using quire::testing::gguf_writer;

namespace {

constexpr std::array<std::uint64_t, 1> dims_8{8};
const std::string f32_x8(32, '\0');

std::string message_of(const std::string& bytes) {
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(!file);
  REQUIRE(file.error().code == errc::invalid_file);
  return file.error().message;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

template <class T>
std::vector<T> elements(const gguf_array& array) {
  std::vector<T> out(array.count);
  REQUIRE(array.bytes.size() == out.size() * sizeof(T));
  std::memcpy(out.data(), array.bytes.data(), array.bytes.size());
  return out;
}

}  // namespace

// The file is written by PyPI gguf: tests/golden/every_type_gguf.py states these values.
TEST_CASE("every value type of a file by the gguf package reads back", "[models][gguf]") {
  const auto opened = gguf_file::open(QUIRE_SOURCE_DIR "/tests/golden/models/every_type.gguf");
  REQUIRE(opened);
  const gguf_file& file = *opened;
  CHECK(file.version() == 3);
  CHECK(file.get_string("general.architecture") == "llama");
  CHECK(file.get_uint("scalar.uint8") == 200U);
  CHECK(std::get<std::int64_t>(*file.find("scalar.int8")) == -100);
  CHECK(file.get_uint("scalar.uint16") == 60000U);
  CHECK(std::get<std::int64_t>(*file.find("scalar.int16")) == -30000);
  CHECK(file.get_uint("scalar.uint32") == 4000000000U);
  CHECK(std::get<std::int64_t>(*file.find("scalar.int32")) == -2000000000);
  CHECK(file.get_float("scalar.float32") == 0.15625);
  CHECK(file.get_bool("scalar.bool") == true);
  CHECK(file.get_string("scalar.string") == "a \xc3\xa9 \xf0\x9f\x98\x80");
  CHECK(file.get_uint("scalar.uint64") == 9223372036854775813U);
  CHECK(std::get<std::int64_t>(*file.find("scalar.int64")) == -(std::int64_t{1} << 62));
  CHECK(file.get_float("scalar.float64") == 1e300);

  const auto array = [&](std::string_view key) -> const gguf_array& {
    const auto* found = file.get_array(key);
    REQUIRE(found != nullptr);
    REQUIRE(found->count == 3);
    return *found;
  };
  CHECK(elements<std::uint8_t>(array("array.uint8")) == std::vector<std::uint8_t>{200, 1, 200});
  CHECK(elements<std::int8_t>(array("array.int8")) == std::vector<std::int8_t>{-100, 1, -100});
  CHECK(elements<std::uint16_t>(array("array.uint16")) ==
        std::vector<std::uint16_t>{60000, 1, 60000});
  CHECK(elements<std::int16_t>(array("array.int16")) ==
        std::vector<std::int16_t>{-30000, 1, -30000});
  CHECK(elements<std::uint32_t>(array("array.uint32")) ==
        std::vector<std::uint32_t>{4000000000U, 1, 4000000000U});
  CHECK(elements<std::int32_t>(array("array.int32")) ==
        std::vector<std::int32_t>{-2000000000, 1, -2000000000});
  CHECK(elements<float>(array("array.float32")) == std::vector<float>{0.15625f, 1.0f, 0.15625f});
  CHECK(elements<std::uint8_t>(array("array.bool")) == std::vector<std::uint8_t>{1, 0, 1});
  CHECK(array("array.string").strings ==
        std::vector<std::string_view>{"a \xc3\xa9 \xf0\x9f\x98\x80", "",
                                      "a \xc3\xa9 \xf0\x9f\x98\x80"});
  CHECK(elements<std::uint64_t>(array("array.uint64")) ==
        std::vector<std::uint64_t>{9223372036854775813U, 1, 9223372036854775813U});
  CHECK(elements<std::int64_t>(array("array.int64")) ==
        std::vector<std::int64_t>{-(std::int64_t{1} << 62), 1, -(std::int64_t{1} << 62)});
  CHECK(elements<double>(array("array.float64")) == std::vector<double>{1e300, 1.0, 1e300});

  REQUIRE(file.tensors().size() == 4);
  const auto* matrix = file.find_tensor("f32.2x3");
  REQUIRE(matrix != nullptr);
  CHECK(matrix->num_dims == 2);
  CHECK(matrix->dims == std::array<std::uint64_t, 4>{2, 3, 1, 1});
  CHECK(matrix->num_values() == 6);
  const auto bytes = file.data(*matrix);
  std::array<float, 6> values{};
  REQUIRE(bytes.size() == sizeof(values));
  std::memcpy(values.data(), bytes.data(), sizeof(values));
  CHECK(values == std::array<float, 6>{0, 1, 2, 3, 4, 5});
  const auto* q8 = file.find_tensor("q8_0.64x2");
  REQUIRE(q8 != nullptr);
  CHECK(q8->dims == std::array<std::uint64_t, 4>{64, 2, 1, 1});
  CHECK(q8->size_bytes == 4 * 34);
  CHECK(file.find_tensor("f32.1x2x3x4")->dims == std::array<std::uint64_t, 4>{1, 2, 3, 4});
  CHECK(file.find_tensor("f16.5")->size_bytes == 10);
  file.drop(*q8);
  CHECK(file.data(*q8).size() == 136);
}

TEST_CASE("lookups of a missing key or another kind give nothing", "[models][gguf]") {
  const auto bytes = gguf_writer().add_u32("n", 7).add_string("s", "x").bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  CHECK(!file->get_uint("missing"));
  CHECK(!file->get_uint("s"));
  CHECK(!file->get_string("n"));
  CHECK(!file->get_float("n"));
  CHECK(!file->get_bool("n"));
  CHECK(file->get_array("n") == nullptr);
  CHECK(file->find_tensor("n") == nullptr);
}

TEST_CASE("version 2 reads, others are refused by name", "[models][gguf]") {
  CHECK(gguf_file::parse(as_byte_span(gguf_writer(2).add_u32("n", 7).bytes()))->version() == 2);
  CHECK(contains(message_of(gguf_writer(1).bytes()), "version 1 is not read"));
  CHECK(contains(message_of(gguf_writer(0x03000000).bytes()), "big-endian"));
  CHECK(
      contains(message_of("GGML" + gguf_writer().bytes().substr(4)), "does not begin with 'GGUF'"));
  CHECK(contains(message_of("GG"), "truncated"));
}

TEST_CASE("files that are not there or not files are io errors", "[models][gguf]") {
  CHECK(gguf_file::open("/nonexistent/model.gguf").error().code == errc::io_error);
  CHECK(gguf_file::open(QUIRE_SOURCE_DIR "/models").error().code == errc::io_error);
}

TEST_CASE("every truncation of a file is refused", "[models][gguf]") {
  const auto bytes = gguf_writer()
                         .add_u32("number", 7)
                         .add_strings("words", std::vector<std::string>{"a", "bc", ""})
                         .add_tensor("weights", dims_8, 0, f32_x8)
                         .bytes();
  REQUIRE(gguf_file::parse(as_byte_span(bytes)));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    INFO("length " << length);
    CHECK(contains(message_of(bytes.substr(0, length)), "byte "));
  }
}

TEST_CASE("counts that the file cannot hold are refused before allocation", "[models][gguf]") {
  const std::string huge("\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
  auto bytes = gguf_writer().add_u32("n", 1).bytes();
  CHECK(contains(message_of(bytes.substr(0, 8) + huge + bytes.substr(16)), "tensors cannot be"));
  CHECK(contains(message_of(bytes.substr(0, 16) + huge + bytes.substr(24)), "metadata entries"));
  const std::string u8_type(4, '\0');
  const std::string string_type("\x08\0\0\0", 4);
  const std::string array_type("\x09\0\0\0", 4);
  CHECK(contains(message_of(gguf_writer().add_raw("k", 9, u8_type + huge).bytes()), "elements"));
  CHECK(
      contains(message_of(gguf_writer().add_raw("k", 9, string_type + huge).bytes()), "elements"));
  CHECK(contains(message_of(gguf_writer().add_raw("k", 9, array_type + huge).bytes()),
                 "array of arrays"));
  CHECK(contains(message_of(gguf_writer().add_raw("k", 8, huge).bytes()), "'k' claims"));
  CHECK(contains(message_of(gguf_writer().add_raw("k", 13, huge).bytes()), "value types"));
  CHECK(contains(message_of(gguf_writer().add_raw("k", 7, "\x02").bytes()), "boolean"));
}

TEST_CASE("names must be there, short and unique", "[models][gguf]") {
  CHECK(contains(message_of(gguf_writer().add_u32("", 1).bytes()), "is empty"));
  CHECK(contains(message_of(gguf_writer().add_u32(std::string(65536, 'k'), 1).bytes()),
                 "more than 65535"));
  CHECK(contains(message_of(gguf_writer().add_u32("k", 1).add_bool("k", true).bytes()),
                 "key 'k' occurs twice"));
  CHECK(contains(message_of(gguf_writer()
                                .add_tensor("t", dims_8, 0, f32_x8)
                                .add_tensor("t", dims_8, 0, f32_x8)
                                .bytes()),
                 "tensor 't' occurs twice"));
}

TEST_CASE("tensors must have sensible dimensions", "[models][gguf]") {
  const auto with = [](std::vector<std::uint64_t> dims, std::uint32_t type) {
    return message_of(gguf_writer().add_tensor("t", dims, type, f32_x8).bytes());
  };
  CHECK(contains(with({1, 1, 1, 1, 1}, 0), "5 dimensions"));
  CHECK(contains(with({0}, 0), "impossible dimension 0"));
  CHECK(
      contains(with({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0), "impossible dimension"));
  CHECK(contains(with({std::uint64_t{1} << 62}, 0), "larger than any file"));
  CHECK(contains(with({33}, 8), "multiple of the 32"));
  CHECK(contains(with({9}, 0), "truncated"));
}

TEST_CASE("tensor data must be in the file, aligned and not shared", "[models][gguf]") {
  const auto base = gguf_writer().add_tensor("t", dims_8, 0, f32_x8);
  CHECK(
      contains(message_of(gguf_writer(base).add_tensor_at("u", dims_8, 0, 0).bytes()), "overlap"));
  CHECK(contains(message_of(gguf_writer(base).add_tensor_at("u", dims_8, 0, 4).bytes()),
                 "multiple of the alignment 32"));
  CHECK(contains(message_of(gguf_writer(base).add_tensor_at("u", dims_8, 0, 64).bytes()),
                 "truncated"));
  CHECK(contains(
      message_of(gguf_writer(base).add_tensor_at("u", dims_8, 0, ~std::uint64_t{31}).bytes()),
      "truncated"));
  CHECK(contains(message_of(gguf_writer(base).add_u32("general.alignment", 0).bytes()),
                 "power of two"));
  CHECK(contains(message_of(gguf_writer(base).add_u32("general.alignment", 48).bytes()),
                 "power of two"));
  CHECK(contains(message_of(gguf_writer(base).add_string("general.alignment", "32").bytes()),
                 "power of two"));
  CHECK(gguf_file::parse(as_byte_span(gguf_writer(base).add_u32("general.alignment", 16).bytes())));
}

TEST_CASE("a tensor of an unknown type is listed without a size", "[models][gguf]") {
  const auto bytes = gguf_writer().add_tensor("t", dims_8, 999, f32_x8).bytes();
  const auto file = gguf_file::parse(as_byte_span(bytes));
  REQUIRE(file);
  CHECK(file->tensors()[0].type_number == 999);
  CHECK(file->tensors()[0].size_bytes == 0);
  CHECK(file->data(file->tensors()[0]).empty());
}

TEST_CASE("messages show hostile names in printable form", "[models][gguf]") {
  const std::string name = "a\n\x1b[31m" + std::string(1000, 'x');
  const auto message = message_of(gguf_writer().add_u32(name, 1).add_u32(name, 2).bytes());
  CHECK(contains(message, "'a\\x0a\\x1b[31mxxx"));
  CHECK(message.size() < 200);
}

TEST_CASE("value types have the names of GGUF's documents", "[models][gguf]") {
  CHECK(gguf_type_name(gguf_type::u8) == "uint8");
  CHECK(gguf_type_name(gguf_type::boolean) == "bool");
  CHECK(gguf_type_name(gguf_type::f64) == "float64");
}
