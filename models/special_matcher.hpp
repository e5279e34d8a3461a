// Finds special tokens written out in a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace quire {

/// An occurrence of a special token.
struct special_match {
  std::size_t offset = 0;
  std::size_t size = 0;
  std::uint32_t id = 0;
  bool operator==(const special_match&) const = default;
};

class special_matcher {
 public:
  special_matcher() = default;
  /// Takes the tokens with these ids, whose texts (by id) must outlive the matcher. Empty texts are
  /// left out.
  special_matcher(std::span<const std::string_view> texts, std::span<const std::uint32_t> ids);

  /// Returns the occurrences in the order of the text. Where they overlap the longest wins, then
  /// the lowest id, then the leftmost: the order in which the reference splits. Thread-safe. Cost:
  /// O(n), times the number of distinct tokens in stretches where they overlap; memory O(result).
  std::vector<special_match> find(std::string_view text) const;

 private:
  struct special {
    std::string_view text;
    std::uint32_t id = 0;
  };
  /// A node of the trie of all texts; its children are consecutive edges, sorted by byte.
  struct node {
    std::uint32_t first_edge = 0;
    std::uint32_t num_edges = 0;
    std::uint32_t special = 0;  // 1 + the index of the text that ends here; 0: none does
  };
  struct edge {
    unsigned char byte = 0;
    std::uint32_t child = 0;
  };
  /// A stretch in which occurrences overlap, and which tokens they are.
  struct cluster {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t num_matches = 0;
    std::vector<std::uint32_t> specials;  // indices, sorted
  };

  const node* child_of(const node& parent, char byte) const noexcept;
  void note_matches_at(std::string_view text, std::size_t offset, cluster& open,
                       std::vector<special_match>& out) const;
  void close(std::string_view text, cluster& open, std::vector<special_match>& out) const;

  std::vector<special> specials_;  // longest first, then by id
  std::vector<node> nodes_;        // nodes_[0] is the root
  std::vector<edge> edges_;
};

}  // namespace quire
