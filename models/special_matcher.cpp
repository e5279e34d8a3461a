#include "models/special_matcher.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace quire {

special_matcher::special_matcher(std::span<const std::string_view> texts,
                                 std::span<const std::uint32_t> ids) {
  for (const std::uint32_t id : ids)
    if (!texts[id].empty()) specials_.push_back({texts[id], id});
  std::ranges::sort(specials_, [](const special& a, const special& b) {
    return std::tuple(b.text.size(), a.id) < std::tuple(a.text.size(), b.id);
  });
  std::vector<std::uint32_t> by_text(specials_.size());
  for (std::uint32_t i = 0; i < by_text.size(); ++i) by_text[i] = i;
  const auto text_of = [this](std::uint32_t i) { return specials_[i].text; };
  std::ranges::sort(by_text, {}, text_of);

  // Breadth first, so that the children of a node are consecutive. A node stands for the texts
  // by_text[low..high), which share their first `depth` bytes.
  struct pending_node {
    std::size_t low;
    std::size_t high;
    std::size_t depth;
  };
  std::vector<pending_node> pending{{0, by_text.size(), 0}};
  nodes_.emplace_back();
  for (std::size_t next = 0; next < pending.size(); ++next) {
    auto [low, high, depth] = pending[next];
    if (low < high && text_of(by_text[low]).size() == depth) {
      nodes_[next].special = by_text[low] + 1;
      ++low;
    }
    nodes_[next].first_edge = static_cast<std::uint32_t>(edges_.size());
    while (low < high) {
      const char byte = text_of(by_text[low])[depth];
      std::size_t end = low;
      while (end < high && text_of(by_text[end])[depth] == byte) ++end;
      edges_.push_back(
          {static_cast<unsigned char>(byte), static_cast<std::uint32_t>(nodes_.size())});
      nodes_.emplace_back();
      ++nodes_[next].num_edges;
      pending.push_back({low, end, depth + 1});
      low = end;
    }
  }
}

const special_matcher::node* special_matcher::child_of(const node& parent,
                                                       char byte) const noexcept {
  const auto children = std::span(edges_).subspan(parent.first_edge, parent.num_edges);
  const auto found =
      std::ranges::lower_bound(children, static_cast<unsigned char>(byte), {}, &edge::byte);
  if (found == children.end() || found->byte != static_cast<unsigned char>(byte)) return nullptr;
  return &nodes_[found->child];
}

void special_matcher::note_matches_at(std::string_view text, std::size_t offset, cluster& open,
                                      std::vector<special_match>& out) const {
  const node* at = &nodes_[0];
  for (std::size_t i = offset; i < text.size(); ++i) {
    at = child_of(*at, text[i]);
    if (at == nullptr) return;
    if (at->special == 0) continue;
    if (offset >= open.end) close(text, open, out);
    if (open.num_matches++ == 0) open.begin = offset;
    open.end = std::max(open.end, i + 1);
    const auto place = std::ranges::lower_bound(open.specials, at->special - 1);
    if (place == open.specials.end() || *place != at->special - 1)
      open.specials.insert(place, at->special - 1);
  }
}

void special_matcher::close(std::string_view text, cluster& open,
                            std::vector<special_match>& out) const {
  const std::size_t before = out.size();
  using stretch = std::pair<std::size_t, std::size_t>;
  std::vector<stretch> free{{open.begin, open.end}};
  std::vector<stretch> still_free;
  for (const std::uint32_t index : open.specials) {
    const auto& token = specials_[index];
    still_free.clear();
    for (auto [begin, end] : free) {
      const std::string_view searched = text.substr(0, end);
      for (std::size_t at = searched.find(token.text, begin); at != std::string_view::npos;
           at = searched.find(token.text, begin)) {
        out.push_back({at, token.text.size(), token.id});
        if (begin < at) still_free.emplace_back(begin, at);
        begin = at + token.text.size();
      }
      if (begin < end) still_free.emplace_back(begin, end);
    }
    std::swap(free, still_free);
  }
  std::sort(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(),
            [](const special_match& a, const special_match& b) { return a.offset < b.offset; });
  open.num_matches = 0;
  open.specials.clear();
}

std::vector<special_match> special_matcher::find(std::string_view text) const {
  std::vector<special_match> out;
  if (specials_.empty()) return out;
  cluster open;
  for (std::size_t i = 0; i < text.size(); ++i) note_matches_at(text, i, open, out);
  if (open.num_matches > 0) close(text, open, out);
  return out;
}

}  // namespace quire
