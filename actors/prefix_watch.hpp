// Full prompt pages that somebody is computing right now, so that a request with the same beginning
// can wait for them instead of computing them again. A wrong match only costs waiting: what is
// shared in the end is decided by the prefix index, which compares tokens.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/ids.hpp"

namespace quire {

class prefix_watch {
 public:
  /// Returns one chained hash per full page among the first `max_tokens` tokens.
  static std::vector<std::uint64_t> page_hashes(std::span<const token_id> tokens,
                                                std::uint32_t page_tokens,
                                                std::uint64_t max_tokens);

  /// `owner` will compute the pages with these hashes, from `first_page` on.
  void begin(sequence_id owner, std::vector<std::uint64_t> hashes, std::uint32_t first_page);
  /// The owner's pages before `pages` are done.
  void advance(sequence_id owner, std::uint32_t pages);
  /// The owner will compute nothing more; unknown owners are ignored.
  void end(sequence_id owner);
  /// Whether somebody is computing the page with this hash.
  bool pending(std::uint64_t hash) const { return pending_.contains(hash); }

 private:
  struct work {
    std::vector<std::uint64_t> hashes;
    std::uint32_t next = 0;
  };
  void finish_page(std::uint64_t hash);

  std::unordered_map<sequence_id, work> owners_;
  std::unordered_map<std::uint64_t, std::uint32_t> pending_;  ///< hash -> how many compute it
};

}  // namespace quire
