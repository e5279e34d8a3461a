#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "config/config.hpp"
#include "tests/support/catch.hpp"

namespace {

const std::string default_file = QUIRE_SOURCE_DIR "/config/default.yaml";

quire::loaded_config load_default_file() {
  quire::config_builder builder;
  builder.read_file(default_file);
  auto config = builder.finish();
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  return *config;
}

}  // namespace

TEST_CASE("default.yaml mentions every key with the default of the C++ structs", "[config]") {
  const quire::loaded_config from_file = load_default_file();
  const auto built_in = quire::config_builder().finish();
  REQUIRE(built_in);
  REQUIRE(from_file.values.size() == built_in->values.size());
  for (std::size_t i = 0; i < from_file.values.size(); ++i) {
    INFO(from_file.values[i].key);
    CHECK(from_file.values[i].text == built_in->values[i].text);
    CHECK(from_file.values[i].origin.starts_with(default_file + ":"));
  }
}

TEST_CASE("default.yaml has a comment above every key", "[config]") {
  std::ifstream file(default_file);
  std::string previous;
  std::size_t keys = 0;
  for (std::string line; std::getline(file, line); previous = line) {
    const std::size_t start = line.find_first_not_of(' ');
    if (start == std::string::npos || start == 0 || line[start] == '#' || line.ends_with(':'))
      continue;
    INFO(line);
    CHECK(previous.find('#') != std::string::npos);
    ++keys;
  }
  CHECK(keys == quire::config_keys().size());
}

TEST_CASE("default.yaml marks exactly the keys that are not supported yet", "[config]") {
  std::ifstream file(default_file);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const quire::config_key& key : quire::config_keys()) {
    const std::string_view name = key.name.substr(key.name.rfind('.') + 1);
    const std::size_t at = text.find("  " + std::string(name) + ":");
    REQUIRE(at != std::string::npos);
    const std::size_t comment = text.rfind('#', at);
    std::string said = text.substr(comment, at - comment);
    if (const std::size_t see = said.find("See "); see != std::string::npos) continue;
    INFO(key.name << ": " << said);
    CHECK((said.find("Not supported yet") != std::string::npos) ==
          (key.support == quire::key_support::not_yet));
  }
}

TEST_CASE("what show prints reads back as the same configuration", "[config]") {
  quire::config_builder builder;
  builder.set("model.path", "/a \"b\"\\: #c\n\t\xc3\xa9", "--model");
  builder.set("model.alias", "null,x: y,3", "--alias");
  builder.set("server.port", "9090", "--port");
  builder.set("kv.type_v", "f16", "--kv");
  builder.set("sampling.temperature", "0.1", "--temp");
  builder.set("log.level", "off", "--quiet");
  const auto config = builder.finish();
  REQUIRE(config);
  const std::string shown = quire::show_config(*config);
  for (const char* line : {"server:\n", "  port: 9090  # --port\n", "    idle: true  # default\n"})
    CHECK(shown.find(line) != std::string::npos);
  quire::config_builder again;
  again.read_text(shown, "shown");
  const auto reread = again.finish();
  INFO(shown);
  REQUIRE(reread);
  for (std::size_t i = 0; i < config->values.size(); ++i)
    CHECK(reread->values[i].text == config->values[i].text);
}

TEST_CASE("the schema has every key with type, default and limits", "[config]") {
  const auto schema = nlohmann::json::parse(quire::config_schema());
  for (const quire::config_key& key : quire::config_keys()) {
    std::string pointer;
    std::istringstream parts{std::string(key.name)};
    for (std::string part; std::getline(parts, part, '.');) pointer += "/properties/" + part;
    INFO(pointer);
    REQUIRE(schema.contains(nlohmann::json::json_pointer(pointer)));
    const auto& property = schema[nlohmann::json::json_pointer(pointer)];
    CHECK(property.contains("type"));
    CHECK(property.contains("default"));
    CHECK_FALSE(property["description"].get<std::string>().empty());
  }
  const auto& port = schema["properties"]["server"]["properties"]["port"];
  CHECK(port["type"] == "integer");
  CHECK(port["minimum"] == 0);
  CHECK(port["maximum"] == 65535);
  CHECK(port["default"] == 8080);
  CHECK(schema["properties"]["sampling"]["properties"]["top_p"]["default"] == 0.95);
  CHECK(schema["properties"]["kv"]["additionalProperties"] == false);
  CHECK(schema["properties"]["kv"]["properties"]["type_k"]["enum"] ==
        nlohmann::json({"f32", "f16", "q8", "q4"}));
}
