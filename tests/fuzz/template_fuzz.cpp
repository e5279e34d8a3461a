// A chat template, optionally a zero byte and its variables as JSON: whatever they are, parsing and
// rendering end with a text or an error, within small limits.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "models/chat_template.hpp"
#include "models/jinja/evaluator.hpp"
#include "models/jinja/lexer.hpp"
#include "models/jinja/parser.hpp"

namespace {

nlohmann::ordered_json variables_of(std::string_view text) {
  auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_object()) return json;
  return {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}, {"add_generation_prompt", true}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = input.find('\0');
  const std::string_view source = input.substr(0, zero);
  const auto variables = variables_of(zero == std::string_view::npos ? "" : input.substr(zero + 1));
  const auto parsed = quire::chat_template::parse(source);
  if (!parsed) return 0;
  quire::jinja::render_limits limits;
  limits.steps = 200'000;
  limits.arena_bytes = 16u << 20;
  limits.output_bytes = 1u << 20;
  try {
    const auto body = quire::jinja::parse_template(quire::jinja::normalize_source(source));
    quire::jinja::runtime rt(limits);
    const quire::jinja::value root = rt.from_json(variables);
    quire::jinja::render_template(body, *std::get<const quire::jinja::mapping*>(root), rt);
  } catch (const quire::jinja::failure&) {
    return 0;  // refused, as it should be
  }
  return 0;
}
