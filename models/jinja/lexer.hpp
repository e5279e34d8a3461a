// Cuts a template into tokens, with the whitespace control of trim_blocks and lstrip_blocks on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quire::jinja {

enum class token_kind : std::uint8_t {
  data,  ///< text outside of tags; `text` is what is printed
  block_begin,
  block_end,
  variable_begin,
  variable_end,
  name,
  string,
  integer,
  real,
  symbol,  ///< an operator or bracket, in `text`
  end
};

struct token {
  token_kind kind = token_kind::end;
  std::string text;        ///< strings with their escapes resolved
  std::size_t offset = 0;  ///< in the normalized source
  std::int64_t integer = 0;
  double real = 0;
};

/// Returns the source with all line ends as \n and without its last one, as Jinja reads it. Offsets
/// of tokens and errors refer to this text.
std::string normalize_source(std::string_view source);

/// Returns the tokens, the last of which is `end`. Throws failure: invalid_argument on what is no
/// template.
std::vector<token> tokenize_template(std::string_view source);

}  // namespace quire::jinja
