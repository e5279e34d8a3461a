#include "server/chat_messages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "server/field_table.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 5> roles{"system", "developer", "user", "assistant", "tool"};

api_result<std::string> read_text_part(const json& part, const std::string& place) {
  if (!part.is_object())
    return tl::unexpected(invalid_value(
        place, fmt::format("'{}' must be an object such as {{\"type\":\"text\",\"text\":\"..\"}}.",
                           place)));
  const auto* type = given_field(part, "type");
  if (type == nullptr || !type->is_string())
    return tl::unexpected(
        invalid_value(place + ".type", fmt::format("'{}.type' must be a string.", place)));
  if (*type != "text")
    return tl::unexpected(unsupported_parameter(
        place + ".type",
        fmt::format("'{}.type' is {}; this model reads text parts only.", place, brief(*type))));
  const auto* text = given_field(part, "text");
  if (text == nullptr || !text->is_string())
    return tl::unexpected(
        invalid_value(place + ".text", fmt::format("'{}.text' must be a string.", place)));
  return text->get<std::string>();
}

api_result<std::string> join_parts(const json& parts, const std::string& place) {
  if (parts.empty())
    return tl::unexpected(invalid_value(place, fmt::format("'{}' must not be empty.", place)));
  std::string joined;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto text = read_text_part(parts[i], fmt::format("{}[{}]", place, i));
    if (!text) return tl::unexpected(std::move(text.error()));
    if (i != 0) joined += '\n';
    joined += *text;
  }
  return joined;
}

api_result<json> read_content(const json& message, const std::string& place) {
  const bool calls_tools = given_field(message, "tool_calls") != nullptr;
  const auto found = message.find("content");
  if (found == message.end()) {
    if (calls_tools) return json(nullptr);
    return tl::unexpected(invalid_value(place, fmt::format("'{}' is missing.", place)));
  }
  if (found->is_null()) return calls_tools ? json(nullptr) : json("");
  if (found->is_string()) return *found;
  if (found->is_array()) {
    auto joined = join_parts(*found, place);
    if (!joined) return tl::unexpected(std::move(joined.error()));
    return json(*std::move(joined));
  }
  return tl::unexpected(
      invalid_value(place, fmt::format("'{}' must be a string, an array of parts, or null, not {}.",
                                       place, brief(*found))));
}

api_result<json> read_message(const json& message, const std::string& place) {
  if (!message.is_object())
    return tl::unexpected(
        invalid_value(place, fmt::format("'{}' must be an object with role and content, not {}.",
                                         place, brief(message))));
  const auto* role = given_field(message, "role");
  const bool known =
      role != nullptr && role->is_string() &&
      std::find(roles.begin(), roles.end(), role->get_ref<const std::string&>()) != roles.end();
  if (!known)
    return tl::unexpected(invalid_value(
        place + ".role",
        fmt::format("'{}.role' must be system, developer, user, assistant or tool, not {}.", place,
                    role == nullptr ? "missing" : brief(*role))));
  auto content = read_content(message, place + ".content");
  if (!content) return tl::unexpected(std::move(content.error()));
  if (const auto* calls = given_field(message, "tool_calls");
      calls != nullptr && !calls->is_array())
    return tl::unexpected(invalid_value(place + ".tool_calls",
                                        fmt::format("'{}.tool_calls' must be an array.", place)));
  json checked = message;
  // OpenAI's newer name for the system role; the templates of open models know only the older one.
  if (*role == "developer") checked["role"] = "system";
  checked["content"] = *std::move(content);
  return checked;
}

std::optional<api_error> read_tools(const json& body, json& variables) {
  const auto* choice = given_field(body, "tool_choice");
  if (choice != nullptr && !choice->is_string() && !choice->is_object())
    return invalid_value("tool_choice", "'tool_choice' must be a string or an object.");
  const auto* tools = given_field(body, "tools");
  if (tools != nullptr && !tools->is_array())
    return invalid_value("tools", fmt::format("'tools' must be an array, not {}.", brief(*tools)));
  if (choice != nullptr && choice->is_string() && *choice != "auto" && *choice != "none" &&
      *choice != "required")
    return invalid_value("tool_choice",
                         fmt::format("'tool_choice' must be auto, none, required or an object "
                                     "that names a function, not {}.",
                                     brief(*choice)));
  if (choice != nullptr && *choice != "auto" && *choice != "none")
    return unsupported_parameter(
        "tool_choice", "'tool_choice' cannot force a call yet; use \"auto\" or \"none\".");
  const bool wanted = choice == nullptr || *choice != "none";
  if (tools != nullptr && !tools->empty() && wanted) variables["tools"] = *tools;
  return std::nullopt;
}

}  // namespace

api_result<json> read_messages(const json& body) {
  const auto* messages = given_field(body, "messages");
  if (messages == nullptr)
    return tl::unexpected(invalid_value("messages", "'messages' is missing."));
  if (!messages->is_array())
    return tl::unexpected(invalid_value(
        "messages", fmt::format("'messages' must be an array, not {}.", brief(*messages))));
  if (messages->empty())
    return tl::unexpected(invalid_value("messages", "'messages' must not be empty."));
  json checked = json::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    auto message = read_message((*messages)[i], fmt::format("messages[{}]", i));
    if (!message) return tl::unexpected(std::move(message.error()));
    checked.push_back(*std::move(message));
  }
  return checked;
}

api_result<json> read_chat_variables(const json& body) {
  json variables = json::object();
  if (const auto* extra = given_field(body, "chat_template_kwargs")) {
    if (auto failure = check_shape({"chat_template_kwargs", field_type::object}, *extra))
      return tl::unexpected(*std::move(failure));
    variables = *extra;
  }
  auto messages = read_messages(body);
  if (!messages) return tl::unexpected(std::move(messages.error()));
  variables["messages"] = *std::move(messages);
  if (auto failure = read_tools(body, variables)) return tl::unexpected(*std::move(failure));
  const auto* prompt = given_field(body, "add_generation_prompt");
  if (prompt != nullptr)
    if (auto failure = check_shape({"add_generation_prompt", field_type::boolean}, *prompt))
      return tl::unexpected(*std::move(failure));
  variables["add_generation_prompt"] = prompt == nullptr || prompt->get<bool>();
  return variables;
}

}  // namespace quire
