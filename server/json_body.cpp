#include "server/json_body.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace quire {
namespace {

// Values are copied and rendered recursively; this depth is far from the stack's end.
constexpr std::size_t max_depth = 64;
// Ordered objects look for duplicates linearly, so n members cost n^2 / 2 comparisons. This allows
// one object of ten thousand members and keeps the worst body under a second.
constexpr std::uint64_t max_member_comparisons = 50'000'000;

api_error invalid_json(std::string message) {
  api_error failure;
  failure.message = std::move(message);
  failure.code = "invalid_json";
  return failure;
}

// Walks brackets and commas outside of strings; grammar is the parser's business.
std::optional<api_error> check_size(std::string_view body) {
  std::vector<std::uint64_t> members;
  std::uint64_t comparisons = 0;
  for (std::size_t i = 0; i < body.size(); ++i) {
    switch (body[i]) {
      case '"':
        for (++i; i < body.size() && body[i] != '"'; ++i)
          if (body[i] == '\\') ++i;
        break;
      case '{':
      case '[':
        members.push_back(0);
        if (members.size() > max_depth)
          return invalid_json(
              fmt::format("The body nests deeper than {} levels at byte {}.", max_depth, i + 1));
        break;
      case '}':
      case ']':
        if (!members.empty()) members.pop_back();
        break;
      case ':':
        if (!members.empty()) comparisons += ++members.back();
        if (comparisons > max_member_comparisons)
          return invalid_json(fmt::format("An object has too many members at byte {}.", i + 1));
        break;
      default:
        break;
    }
  }
  return std::nullopt;
}

// The library's text is "[json.exception...] parse error at line 1, column 5: what went wrong".
std::string reason_of(const nlohmann::json::exception& failure) {
  const std::string text = failure.what();
  if (const auto column = text.find("column "); column != std::string::npos)
    if (const auto colon = text.find(": ", column); colon != std::string::npos)
      return text.substr(colon + 2);
  const auto bracket = text.find("] ");
  return bracket == std::string::npos ? text : text.substr(bracket + 2);
}

}  // namespace

api_result<nlohmann::ordered_json> parse_json_body(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return tl::unexpected(invalid_json("The body is empty; send a JSON object (at byte 0)."));
  if (auto failure = check_size(body)) return tl::unexpected(*std::move(failure));
  try {
    auto value = nlohmann::ordered_json::parse(body);
    if (!value.is_object()) {
      auto failure = invalid_value(
          "", fmt::format("The body must be a JSON object, not {}.", value.type_name()));
      failure.param.reset();
      return tl::unexpected(std::move(failure));
    }
    return value;
  } catch (const nlohmann::json::parse_error& failure) {
    return tl::unexpected(invalid_json(fmt::format("The body is not valid JSON at byte {}: {}",
                                                   failure.byte, reason_of(failure))));
  } catch (const nlohmann::json::exception& failure) {
    return tl::unexpected(
        invalid_json(fmt::format("The body is not valid JSON: {}", reason_of(failure))));
  }
}

}  // namespace quire
