// Steps through bytes that should be UTF-8 but may not be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace quire {

enum class utf8_state : std::uint8_t {
  valid,
  invalid,    ///< these bytes begin no character, whatever follows
  truncated,  ///< the text ends inside a character that is well-formed so far
};

struct utf8_step {
  std::size_t size = 0;  ///< bytes: of the character, or of the maximal ill-formed part
  utf8_state state = utf8_state::valid;
};

/// Looks at the character at the start of a non-empty text. Surrogates, overlong forms and numbers
/// above U+10FFFF are invalid. Source: Unicode Standard, table 3-7, and "U+FFFD substitution of
/// maximal subparts" in section 3.9.
utf8_step next_utf8(std::string_view text) noexcept;

/// Returns whether all of the text is UTF-8.
bool is_utf8(std::string_view text) noexcept;

}  // namespace quire
