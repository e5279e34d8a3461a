#include "actors/prompt.hpp"

#include <exception>
#include <string>

namespace quire {

namespace {

result<std::vector<token_id>> from_chat(const chat_prompt& asked, const tokenizer& vocabulary,
                                        const chat_template* chat) {
  if (chat == nullptr)
    return fail(errc::unsupported,
                "this model has no chat template; send a plain prompt to /v1/completions");
  nlohmann::ordered_json variables = asked.variables;
  const auto add_token = [&](const char* name, std::optional<token_id> token) {
    if (!variables.contains(name))
      variables[name] = token ? std::string(vocabulary.piece(*token)) : std::string();
  };
  add_token("bos_token", vocabulary.bos());
  add_token("eos_token", vocabulary.eos());
  if (!variables.contains("add_generation_prompt")) variables["add_generation_prompt"] = true;
  const auto text = chat->render(variables);
  if (!text) return tl::unexpected(text.error());
  auto tokens = vocabulary.encode(*text, {.add_special = false, .parse_special = true});
  if (vocabulary.adds_bos() && vocabulary.bos() &&
      (tokens.empty() || tokens.front() != *vocabulary.bos()))
    tokens.insert(tokens.begin(), *vocabulary.bos());
  return tokens;
}

result<std::vector<token_id>> from_any(const generation_request& request,
                                       const tokenizer& vocabulary, const chat_template* chat) {
  if (const auto* text = std::get_if<text_prompt>(&request.prompt))
    return vocabulary.encode(text->text,
                             {.add_special = true, .parse_special = text->parse_special});
  if (const auto* tokens = std::get_if<std::vector<token_id>>(&request.prompt)) {
    for (const token_id token : *tokens)
      if (to_index(token) >= vocabulary.vocabulary_size())
        return fail(errc::invalid_argument,
                    "token " + std::to_string(to_index(token)) + " is outside the vocabulary of " +
                        std::to_string(vocabulary.vocabulary_size()) + " tokens");
    return *tokens;
  }
  return from_chat(std::get<chat_prompt>(request.prompt), vocabulary, chat);
}

}  // namespace

result<std::vector<token_id>> build_prompt(const generation_request& request,
                                           const tokenizer& vocabulary, const chat_template* chat) {
  // The JSON library throws on what it cannot convert; here is the edge where that ends.
  try {
    auto tokens = from_any(request, vocabulary, chat);
    if (tokens && tokens->empty())
      return fail(errc::invalid_argument, "the prompt is empty: it has no tokens");
    return tokens;
  } catch (const std::exception& failure) {
    return fail(errc::invalid_argument,
                std::string("the prompt cannot be rendered: ") + failure.what());
  }
}

}  // namespace quire
