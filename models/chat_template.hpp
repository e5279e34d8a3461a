// Renders a model's own chat template (the Jinja dialect of Hugging Face's transformers).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace quire {

class chat_template {
 public:
  /// Parses the template. Errors: unsupported (a Jinja feature that is missing, with line and
  /// column), invalid_argument (a syntax error, with line and column).
  static result<chat_template> parse(std::string_view source);
  chat_template(chat_template&&) noexcept;
  chat_template& operator=(chat_template&&) noexcept;
  ~chat_template();

  /// Renders with the variables of an object: messages, tools, add_generation_prompt, bos_token,
  /// ... Whitespace control as transformers sets it: trim_blocks and lstrip_blocks on. Thread-safe.
  /// Errors: invalid_argument (raise_exception was called, or a runtime type error with its place).
  result<std::string> render(const nlohmann::ordered_json& variables) const;

 private:
  struct impl;
  explicit chat_template(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

}  // namespace quire
