#include "models/byte_level.hpp"

#include <array>

#include "models/utf8.hpp"

namespace quire {

namespace {

constexpr unsigned first_substitute = 0x100;

constexpr bool stands_for_itself(unsigned byte) noexcept {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/// code_points[byte], and the inverse for the code points below U+0180.
struct tables {
  std::array<unsigned, 256> code_points{};
  std::array<int, 0x180> bytes{};
};

constexpr tables make_tables() noexcept {
  tables out;
  for (auto& byte : out.bytes) byte = -1;
  unsigned next = first_substitute;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const unsigned code_point = stands_for_itself(byte) ? byte : next++;
    out.code_points[byte] = code_point;
    out.bytes[code_point] = static_cast<int>(byte);
  }
  return out;
}

constexpr tables all = make_tables();

}  // namespace

std::string byte_level_character(unsigned char byte) {
  const unsigned code_point = all.code_points[byte];
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xc0U | (code_point >> 6U)),
          static_cast<char>(0x80U | (code_point & 0x3fU))};
}

std::optional<std::string> byte_level_decode(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto step = next_utf8(text);
    if (step.state != utf8_state::valid || step.size > 2) return std::nullopt;
    const auto lead = static_cast<unsigned char>(text[0]);
    const unsigned code_point =
        step.size == 1 ? lead
                       : ((lead & 0x1fU) << 6U) | (static_cast<unsigned char>(text[1]) & 0x3fU);
    if (code_point >= all.bytes.size() || all.bytes[code_point] < 0) return std::nullopt;
    out += static_cast<char>(all.bytes[code_point]);
    text.remove_prefix(step.size);
  }
  return out;
}

}  // namespace quire
