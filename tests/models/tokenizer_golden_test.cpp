// Compares with ids that other implementations made: see tests/golden/tokenizer.py.
#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "models/tokenizer.hpp"
#include "models/utf8.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_writer.hpp"
#include "tests/support/model_file.hpp"

using namespace quire;
using nlohmann::json;

namespace {

std::vector<json> read_lines(const std::string& name) {
  std::ifstream in(QUIRE_SOURCE_DIR "/tests/golden/tokenizer/" + name);
  REQUIRE(in);
  std::vector<json> rows;
  for (std::string line; std::getline(in, line);) rows.push_back(json::parse(line));
  REQUIRE(!rows.empty());
  return rows;
}

struct loaded_model {
  gguf_file file;
  std::unique_ptr<tokenizer> words;
};

loaded_model load(const std::filesystem::path& path) {
  auto file = gguf_file::open(path);
  REQUIRE(file);
  auto words = load_tokenizer(*file);
  if (!words) FAIL(words.error().message);
  return {std::move(*file), std::move(*words)};
}

loaded_model load_default() {
  const auto path = testing::find_model(testing::default_model_name);
  if (!path) FAIL("the default model is not in the cache: run ./dev setup");
  return load(*path);
}

/// Returns nothing, and says so, when the development model is not in the cache.
std::optional<loaded_model> load_development() {
  const auto path = testing::find_model(testing::development_model_name);
  if (!path) {
    WARN("skipped: " << testing::development_model_name << " is not in the cache");
    return std::nullopt;
  }
  return load(*path);
}

std::vector<token_id> ids_of(const json& array) {
  std::vector<token_id> ids;
  for (const auto& id : array) ids.push_back(static_cast<token_id>(id.get<std::uint32_t>()));
  return ids;
}

std::string shown(const std::vector<token_id>& ids) {
  std::string out;
  for (const auto id : ids) out += std::to_string(to_index(id)) + " ";
  return out;
}

/// Encodes every case and returns how many differ, showing the first few.
int count_differences(const tokenizer& words, const std::string& column) {
  int num_different = 0;
  for (const auto& row : read_lines("cases.jsonl")) {
    const auto text = row["text"].get<std::string>();
    const bool parse_special = row.contains("parse_special");
    const auto expected = ids_of(row[column]);
    const auto actual = words.encode(text, {.add_special = false, .parse_special = parse_special});
    if (actual == expected) continue;
    if (++num_different <= 5)
      UNSCOPED_INFO(json(text).dump() << " is " << shown(actual) << "not " << shown(expected));
  }
  return num_different;
}

std::string bytes_of_hex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

/// FNV-1a over the bytes of all tokens, each closed by "\xff\n", as in the script.
std::string hash_of_bytes(const tokenizer& words, bool with_special) {
  std::uint64_t value = 0xcbf29ce484222325U;
  for (std::uint32_t id = 0; id < words.vocabulary_size(); ++id)
    for (const char c : std::string(words.bytes(token_id{id}, with_special)) + "\xff\n")
      value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return std::to_string(value);
}

void check_facts(const tokenizer& words, const std::string& model) {
  const auto rows = read_lines("facts.jsonl");
  const auto row = std::ranges::find_if(rows, [&](const json& r) { return r["model"] == model; });
  REQUIRE(row != rows.end());
  CHECK(words.vocabulary_size() == (*row)["size"].get<std::size_t>());
  CHECK(words.adds_bos() == (*row)["adds_bos"].get<bool>());
  CHECK(hash_of_bytes(words, false) == (*row)["bytes_fnv1a"].get<std::string>());
  CHECK(hash_of_bytes(words, true) == (*row)["bytes_with_special_fnv1a"].get<std::string>());
  std::vector<token_id> ends;
  for (std::uint32_t id = 0; id < words.vocabulary_size(); ++id)
    if (words.is_end(token_id{id})) ends.push_back(token_id{id});
  CHECK(ends == ids_of((*row)["end"]));
  CHECK(words.encode("Hello", {.add_special = true}) == ids_of((*row)["hello_with_bos"]));
}

/// Returns a copy of the default model's vocabulary that names another pre-tokenizer.
std::string with_pre_tokenizer(const gguf_file& file, const std::string& name) {
  testing::gguf_writer writer;
  const auto strings = [&](std::string_view key) {
    const auto* array = file.get_array(key);
    REQUIRE(array != nullptr);
    std::vector<std::string> values(array->strings.begin(), array->strings.end());
    writer.add_strings(key, values);
  };
  writer.add_string("tokenizer.ggml.model", "gpt2").add_string("tokenizer.ggml.pre", name);
  strings("tokenizer.ggml.tokens");
  strings("tokenizer.ggml.merges");
  return writer.bytes();
}

}  // namespace

TEST_CASE("the default model's ids equal those of the tokenizers package", "[models][tokenizer]") {
  const auto model = load_default();
  CHECK(count_differences(*model.words, "smollm") == 0);
  check_facts(*model.words, "smollm");
}

TEST_CASE("threads may share a tokenizer", "[models][tokenizer]") {
  const auto model = load_default();
  const auto rows = read_lines("cases.jsonl");
  std::atomic<int> num_different{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (const auto& row : rows) {
        if (row.contains("parse_special")) continue;
        if (model.words->encode(row["text"].get<std::string>(), {}) != ids_of(row["smollm"]))
          ++num_different;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(num_different == 0);
}

TEST_CASE("the default model's text comes back, but for bytes it has no token for",
          "[models][tokenizer]") {
  const auto model = load_default();
  int num_exact = 0;
  for (const auto& row : read_lines("cases.jsonl")) {
    const auto text = row["text"].get<std::string>();
    const auto ids = model.words->encode(text, {});
    std::string kept;
    for (const char c : text)
      if (!model.words->encode(std::string(1, c), {}).empty()) kept += c;
    INFO(json(text).dump());
    REQUIRE(model.words->decode(ids) == kept);
    num_exact += kept == text ? 1 : 0;
  }
  CHECK(num_exact > 2500);
}

TEST_CASE("bytes that are not UTF-8 come back from the default model", "[models][tokenizer]") {
  const auto model = load_default();
  for (const auto& row : read_lines("broken.jsonl")) {
    const auto text = bytes_of_hex(row["hex"].get<std::string>());
    std::string kept;
    for (const char c : text)
      if (!model.words->encode(std::string(1, c), {}).empty()) kept += c;
    CHECK(model.words->decode(model.words->encode(text, {})) == kept);
  }
  CHECK(model.words->decode(model.words->encode("a\xe2\x82"
                                                "b\x80",
                                                {})) ==
        "a\xe2\x82"
        "b\x80");
}

TEST_CASE("the splits of other models equal those of the tokenizers package",
          "[models][tokenizer]") {
  const auto model = load_default();
  const auto rows = read_lines("schemes.jsonl");
  std::map<std::string, int> differences;
  for (const auto& [name, ids] : rows.front().items()) {
    if (name == "text") continue;
    const auto bytes = with_pre_tokenizer(model.file, name);
    const auto file = gguf_file::parse(testing::as_byte_span(bytes));
    REQUIRE(file);
    const auto words = load_tokenizer(*file);
    REQUIRE(words);
    for (const auto& row : rows) {
      const auto text = row["text"].get<std::string>();
      const auto actual = (*words)->encode(text, {});
      if (actual == ids_of(row[name])) continue;
      if (++differences[name] <= 3)
        UNSCOPED_INFO(name << ": " << json(text).dump() << " is " << shown(actual) << "not "
                           << row[name].dump());
    }
  }
  CHECK(differences.empty());
}

TEST_CASE("gemma's ids equal llama.cpp's", "[models][tokenizer]") {
  const auto model = load_development();
  if (!model) return;
  CHECK(count_differences(*model->words, "gemma") == 0);
  check_facts(*model->words, "gemma");
  for (const auto& row : read_lines("broken.jsonl")) {
    const auto text = bytes_of_hex(row["hex"].get<std::string>());
    INFO(row["hex"]);
    CHECK(shown(model->words->encode(text, {})) == shown(ids_of(row["gemma"])));
  }
}

TEST_CASE("every text comes back from gemma's ids", "[models][tokenizer]") {
  const auto model = load_development();
  if (!model) return;
  for (const auto& row : read_lines("cases.jsonl")) {
    const auto text = row["text"].get<std::string>();
    INFO(json(text).dump());
    // U+2581 stands for a space in the vocabulary: it comes back as one.
    if (text.find("\xe2\x96\x81") != std::string::npos) continue;
    REQUIRE(model->words->decode(model->words->encode(text, {})) == text);
  }
  for (const auto& row : read_lines("broken.jsonl")) {
    const auto text = bytes_of_hex(row["hex"].get<std::string>());
    // Neither underscores nor spaces: a cut character swallows the space after it, as in llama.cpp.
    if (text.find_first_of(" \xe2") != std::string::npos) continue;
    CHECK(model->words->decode(model->words->encode(text, {})) == text);
  }
}
