// Text to tokens and back over HTTP, in the shapes that vLLM's and llama-server's clients use.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "models/tokenizer.hpp"
#include "server/chat_messages.hpp"
#include "server/chat_rendering.hpp"
#include "server/field_table.hpp"
#include "server/http_api.hpp"
#include "server/json_body.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

// vLLM says prompt, llama-server says content, others say text.
constexpr std::array<std::string_view, 3> text_fields{"prompt", "content", "text"};

api_result<std::string> read_text(const json& body) {
  for (const auto name : text_fields) {
    const auto* value = given_field(body, name);
    if (value == nullptr) continue;
    if (auto failure = check_shape({name, field_type::string}, *value))
      return tl::unexpected(*std::move(failure));
    return value->get<std::string>();
  }
  return tl::unexpected(
      invalid_value("prompt", "'prompt' is missing ('content' and 'text' are understood too)."));
}

api_result<bool> read_flag(const json& body, std::string_view name, bool otherwise) {
  const auto* value = given_field(body, name);
  if (value == nullptr) return otherwise;
  if (auto failure = check_shape({name, field_type::boolean}, *value))
    return tl::unexpected(*std::move(failure));
  return value->get<bool>();
}

api_result<std::vector<token_id>> read_tokens(const json& body, std::size_t vocabulary_size) {
  const auto* list = given_field(body, "tokens");
  if (list == nullptr || !list->is_array())
    return tl::unexpected(invalid_value("tokens", "'tokens' must be a list of token ids."));
  std::vector<token_id> tokens;
  tokens.reserve(list->size());
  for (std::size_t i = 0; i < list->size(); ++i) {
    const auto& entry = (*list)[i];
    if (!entry.is_number_unsigned() || entry.get<std::uint64_t>() >= vocabulary_size)
      return tl::unexpected(
          invalid_value(fmt::format("tokens[{}]", i),
                        fmt::format("'tokens[{}]' must be a token id below {}, not {}.", i,
                                    vocabulary_size, brief(entry))));
    tokens.push_back(token_id{entry.get<std::uint32_t>()});
  }
  return tokens;
}

}  // namespace

http_api::answer http_api::tokenize(const http_request& request) {
  auto body = parse_json_body(request.body);
  if (!body) return error_reply(body.error());
  auto text = read_text(*body);
  if (!text) return error_reply(text.error());
  // llama-server's clients name the field add_special and leave it off by default.
  auto add = read_flag(*body, "add_special", body->contains("prompt"));
  if (add) add = read_flag(*body, "add_special_tokens", *add);
  if (!add) return error_reply(add.error());
  const auto tokens =
      engine_->vocabulary().encode(*text, {.add_special = *add, .parse_special = true});
  json ids = json::array();
  for (const auto token : tokens) ids.push_back(to_index(token));
  return json_reply({{"tokens", std::move(ids)},
                     {"count", tokens.size()},
                     {"max_model_len", engine_->card().context_tokens}});
}

http_api::answer http_api::detokenize(const http_request& request) {
  auto body = parse_json_body(request.body);
  if (!body) return error_reply(body.error());
  auto tokens = read_tokens(*body, engine_->vocabulary().vocabulary_size());
  if (!tokens) return error_reply(tokens.error());
  const auto text = engine_->vocabulary().decode(*tokens, true);
  return json_reply({{"prompt", text}, {"content", text}});
}

http_api::answer http_api::apply_template(const http_request& request) {
  auto body = parse_json_body(request.body);
  if (!body) return error_reply(body.error());
  auto variables = read_chat_variables(*body);
  if (!variables) return error_reply(variables.error());
  auto prompt = render_chat(*engine_, *std::move(variables));
  if (!prompt) return error_reply(prompt.error());
  return json_reply({{"prompt", *std::move(prompt)}});
}

}  // namespace quire
