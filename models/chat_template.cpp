#include "models/chat_template.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "models/jinja/evaluator.hpp"
#include "models/jinja/lexer.hpp"
#include "models/jinja/parser.hpp"
#include "models/jinja/text.hpp"

namespace quire {

struct chat_template::impl {
  std::string source;  // normalized; the tree's literals are its own
  jinja::statement_list body;
};

namespace {

/// Returns the failure as an error that starts with its line and column, both from 1.
error placed(const jinja::failure& f, std::string_view source) {
  const std::size_t offset = std::min(f.offset, source.size());
  const std::string_view before = source.substr(0, offset);
  const std::size_t line_start = before.rfind('\n') + 1;
  return {f.code,
          fmt::format("chat template:{}:{}: {}", 1 + std::count(before.begin(), before.end(), '\n'),
                      1 + jinja::num_points(before.substr(line_start)), f.message)};
}

}  // namespace

chat_template::chat_template(std::unique_ptr<impl> state) : impl_(std::move(state)) {}
chat_template::chat_template(chat_template&&) noexcept = default;
chat_template& chat_template::operator=(chat_template&&) noexcept = default;
chat_template::~chat_template() = default;

result<chat_template> chat_template::parse(std::string_view source) {
  auto state = std::make_unique<impl>();
  state->source = jinja::normalize_source(source);
  try {
    state->body = jinja::parse_template(state->source);
  } catch (const jinja::failure& f) {
    return tl::unexpected<error>(placed(f, state->source));
  }
  return chat_template(std::move(state));
}

result<std::string> chat_template::render(const nlohmann::ordered_json& variables) const {
  if (!variables.is_object())
    return fail(errc::invalid_argument, "the variables of a chat template must be an object");
  try {
    jinja::runtime rt;
    const jinja::value root = rt.from_json(variables);
    return jinja::render_template(impl_->body, *std::get<const jinja::mapping*>(root), rt);
  } catch (const jinja::failure& f) {
    return tl::unexpected<error>(placed(f, impl_->source));
  }
}

}  // namespace quire
