#include "server/chat_rendering.hpp"

#include <optional>
#include <string_view>
#include <utility>

#include "models/chat_template.hpp"
#include "models/tokenizer.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

void add_token(json& variables, const char* name, const tokenizer& vocabulary,
               std::optional<token_id> token) {
  if (!variables.contains(name))
    variables[name] = token ? std::string(vocabulary.piece(*token)) : std::string();
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view space = " \t\r\n\f\v";
  const auto begin = text.find_first_not_of(space);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(space) + 1 - begin);
}

// Templates may trim messages: then the rendering holds the trimmed text only.
std::size_t end_of_message(std::string_view rendered, std::string_view content) {
  for (const auto text : {content, trimmed(content)})
    if (const auto at = rendered.rfind(text); at != std::string_view::npos) return at + text.size();
  return std::string_view::npos;
}

}  // namespace

api_result<std::string> render_chat(const engine& served_engine, json variables) {
  const auto* chat = served_engine.chat();
  if (chat == nullptr)
    return tl::unexpected(
        unsupported_parameter("messages", "This model carries no chat template."));
  const auto& vocabulary = served_engine.vocabulary();
  add_token(variables, "bos_token", vocabulary, vocabulary.bos());
  add_token(variables, "eos_token", vocabulary, vocabulary.eos());
  auto text = chat->render(variables);
  if (!text) return tl::unexpected(invalid_value("messages", std::move(text.error().message)));
  return *std::move(text);
}

api_result<std::vector<token_id>> continue_last_message(const engine& served_engine,
                                                        json variables) {
  const auto& last = variables["messages"].back()["content"];
  const std::string content = last.is_string() ? last.get<std::string>() : std::string();
  if (trimmed(content).empty())
    return tl::unexpected(invalid_value("continue_final_message",
                                        "The last message has no text that could be continued."));
  variables["add_generation_prompt"] = false;
  auto text = render_chat(served_engine, std::move(variables));
  if (!text) return tl::unexpected(std::move(text.error()));
  const auto end = end_of_message(*text, content);
  if (end == std::string::npos)
    return tl::unexpected(invalid_value(
        "continue_final_message",
        "The chat template changes the last message, so that it cannot be continued."));
  text->resize(end);
  const auto& vocabulary = served_engine.vocabulary();
  auto tokens = vocabulary.encode(*text, {.add_special = false, .parse_special = true});
  const auto bos = vocabulary.bos();
  if (vocabulary.adds_bos() && bos && (tokens.empty() || tokens.front() != *bos))
    tokens.insert(tokens.begin(), *bos);
  return tokens;
}

}  // namespace quire
