// The writing of bytes as printable characters that byte-level vocabularies use.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace quire {

/// Returns the UTF-8 character that stands for a byte: itself when printable in Latin-1 and no
/// space, else one of U+0100.. in order. Source: Radford et al., GPT-2, bytes_to_unicode.
std::string byte_level_character(unsigned char byte);

/// Returns the bytes that a token's text stands for, or nullopt when it has other characters.
std::optional<std::string> byte_level_decode(std::string_view text);

}  // namespace quire
