#include "models/special_matcher.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace quire {

special_matcher::special_matcher(std::span<const std::string_view> texts,
                                 std::vector<std::uint32_t> ids) {
  for (const std::uint32_t id : ids) {
    if (texts[id].empty()) continue;
    specials_.push_back({texts[id], id});
    begins_special_[static_cast<unsigned char>(texts[id].front())] = true;
  }
  std::ranges::sort(specials_, {}, &special::text);
}

void special_matcher::collect_at(std::string_view text, std::size_t offset,
                                 std::vector<special_match>& out) const {
  // Narrows the range of tokens that share the text's prefix, one byte at a time.
  auto low = specials_.begin();
  auto high = specials_.end();
  for (std::size_t depth = 0; offset + depth < text.size() && low != high; ++depth) {
    const auto byte_at = [depth](const special& s) {
      return s.text.size() > depth ? static_cast<unsigned char>(s.text[depth]) + 1 : 0;
    };
    const int byte = static_cast<unsigned char>(text[offset + depth]) + 1;
    low =
        std::lower_bound(low, high, byte, [&](const special& s, int b) { return byte_at(s) < b; });
    high =
        std::upper_bound(low, high, byte, [&](int b, const special& s) { return b < byte_at(s); });
    // The shortest of the range sorts first: it ends here or all are longer.
    if (low != high && low->text.size() == depth + 1) out.push_back({offset, depth + 1, low->id});
  }
}

std::vector<special_match> special_matcher::find(std::string_view text) const {
  std::vector<special_match> found;
  if (specials_.empty()) return found;
  bool overlap = false;
  std::size_t end = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!begins_special_[static_cast<unsigned char>(text[i])]) continue;
    const std::size_t before = found.size();
    collect_at(text, i, found);
    for (std::size_t k = before; k < found.size(); ++k) {
      overlap = overlap || i < end;
      end = std::max(end, i + found[k].size);
    }
  }
  if (!overlap) return found;
  std::ranges::sort(found, [](const special_match& a, const special_match& b) {
    return std::tuple(b.size, a.id, a.offset) < std::tuple(a.size, b.id, b.offset);
  });
  std::map<std::size_t, special_match> chosen;  // by offset
  for (const auto& match : found) {
    const auto after = chosen.lower_bound(match.offset);
    if (after != chosen.end() && after->first < match.offset + match.size) continue;
    if (after != chosen.begin()) {
      const auto& previous = std::prev(after)->second;
      if (previous.offset + previous.size > match.offset) continue;
    }
    chosen.emplace(match.offset, match);
  }
  found.clear();
  for (const auto& [offset, match] : chosen) found.push_back(match);
  return found;
}

}  // namespace quire
