#include "models/utf8.hpp"

#include <cstring>

namespace quire {

namespace {

/// The length of a sequence by its first byte, and what its second byte may be; length 0 when no
/// sequence begins so.
struct lead_rule {
  std::size_t length;
  unsigned char second_low;
  unsigned char second_high;
};

lead_rule rule_of(unsigned char lead) noexcept {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xc2) return {0, 0, 0};
  if (lead < 0xe0) return {2, 0x80, 0xbf};
  if (lead == 0xe0) return {3, 0xa0, 0xbf};
  if (lead == 0xed) return {3, 0x80, 0x9f};
  if (lead < 0xf0) return {3, 0x80, 0xbf};
  if (lead == 0xf0) return {4, 0x90, 0xbf};
  if (lead < 0xf4) return {4, 0x80, 0xbf};
  if (lead == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

}  // namespace

utf8_step next_utf8(std::string_view text) noexcept {
  const auto rule = rule_of(static_cast<unsigned char>(text[0]));
  if (rule.length == 0) return {1, utf8_state::invalid};
  for (std::size_t i = 1; i < rule.length; ++i) {
    if (i == text.size()) return {i, utf8_state::truncated};
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto low = i == 1 ? rule.second_low : static_cast<unsigned char>(0x80);
    const auto high = i == 1 ? rule.second_high : static_cast<unsigned char>(0xbf);
    if (byte < low || byte > high) return {i, utf8_state::invalid};
  }
  return {rule.length, utf8_state::valid};
}

bool is_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    // Eight ASCII bytes at a time: most text is ASCII.
    std::uint64_t word = 0;
    while (at + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & 0x8080808080808080U) != 0) break;
      at += sizeof(word);
    }
    if (at == text.size()) break;
    const auto step = next_utf8(text.substr(at));
    if (step.state != utf8_state::valid) return false;
    at += step.size;
  }
  return true;
}

}  // namespace quire
