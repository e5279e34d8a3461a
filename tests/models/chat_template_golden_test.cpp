// Every case of tests/golden/chat_template.json, which jinja2 rendered
// (tests/golden/chat_template.py).
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "models/chat_template.hpp"
#include "tests/support/catch.hpp"

namespace {

using json = nlohmann::ordered_json;

const std::string golden_folder = QUIRE_SOURCE_DIR "/tests/golden/";

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

quire::result<std::string> render(const std::string& source, const json& variables) {
  auto parsed = quire::chat_template::parse(source);
  if (!parsed) return tl::unexpected<quire::error>(parsed.error());
  return parsed->render(variables);
}

}  // namespace

TEST_CASE("templates print what jinja2 prints and fail where it fails", "[models]") {
  const json cases = json::parse(read_file(golden_folder + "chat_template.json"));
  REQUIRE(cases.size() >= 150);
  std::size_t refused = 0;
  for (const json& one : cases) {
    const std::string source =
        one.contains("file")
            ? read_file(golden_folder + "chat_templates/" + one["file"].get<std::string>())
            : one["template"].get<std::string>();
    INFO(one["name"].get<std::string>() << "\n" << (one.contains("file") ? "" : source));
    const auto rendered = render(source, one["variables"]);
    if (one.contains("output")) {
      INFO((rendered ? "" : rendered.error().message));
      CHECK(rendered.value_or("(an error)") == one["output"].get<std::string>());
    } else {
      ++refused;
      INFO("jinja2: " << one["error"].get<std::string>());
      INFO("printed: " << rendered.value_or(""));
      CHECK_FALSE(rendered);
    }
  }
  CHECK(refused >= 50);
}
