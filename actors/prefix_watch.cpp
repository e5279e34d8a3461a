#include "actors/prefix_watch.hpp"

#include <algorithm>

namespace quire {

namespace {
std::uint64_t mix(std::uint64_t hash, std::uint64_t value) noexcept {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  hash *= 0xff51afd7ed558ccdu;
  return hash ^ (hash >> 32);
}
}  // namespace

std::vector<std::uint64_t> prefix_watch::page_hashes(std::span<const token_id> tokens,
                                                     std::uint32_t page_tokens,
                                                     std::uint64_t max_tokens) {
  const std::size_t pages = std::min<std::uint64_t>(tokens.size(), max_tokens) / page_tokens;
  std::vector<std::uint64_t> hashes(pages);
  std::uint64_t hash = 0;
  for (std::size_t page = 0; page < pages; ++page) {
    for (const token_id token : tokens.subspan(page * page_tokens, page_tokens))
      hash = mix(hash, to_index(token));
    hashes[page] = hash;
  }
  return hashes;
}

void prefix_watch::begin(sequence_id owner, std::vector<std::uint64_t> hashes,
                         std::uint32_t first_page) {
  end(owner);
  if (first_page >= hashes.size()) return;
  for (std::size_t page = first_page; page < hashes.size(); ++page) ++pending_[hashes[page]];
  owners_.emplace(owner, work{std::move(hashes), first_page});
}

void prefix_watch::advance(sequence_id owner, std::uint32_t pages) {
  const auto found = owners_.find(owner);
  if (found == owners_.end()) return;
  work& doing = found->second;
  for (; doing.next < pages && doing.next < doing.hashes.size(); ++doing.next)
    finish_page(doing.hashes[doing.next]);
  if (doing.next == doing.hashes.size()) owners_.erase(found);
}

void prefix_watch::end(sequence_id owner) {
  advance(owner, static_cast<std::uint32_t>(-1));
}

void prefix_watch::finish_page(std::uint64_t hash) {
  const auto found = pending_.find(hash);
  if (found != pending_.end() && --found->second == 0) pending_.erase(found);
}

}  // namespace quire
