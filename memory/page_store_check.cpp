// The invariants of the page store, recomputed from the tables.
#include <algorithm>
#include <string>
#include <vector>

#include "memory/page_store.hpp"

namespace quire {
namespace {

tl::unexpected<error> broken(std::string what) {
  return fail(errc::internal, "page store: " + std::move(what));
}

std::string name(std::size_t page) {
  return "page " + std::to_string(page);
}

}  // namespace

result<void> page_store::check(std::span<const page_id> outside_references) const {
  std::vector<std::uint32_t> outside(pages_.size());
  for (const page_id id : outside_references) {
    if (to_index(id) >= outside.size()) return broken("a reference to no page from outside");
    ++outside[to_index(id)];
  }
  for (std::size_t i = 0; i < pages_.size(); ++i)
    if (outside[i] != pages_[i].outside)
      return broken(name(i) + " is retained " + std::to_string(pages_[i].outside) +
                    " times, its holders outside say " + std::to_string(outside[i]));
  if (auto pages = check_pages(); !pages) return pages;
  return check_tables();
}

result<void> page_store::check_pages() const {
  std::uint64_t stored = 0;
  std::uint32_t num_free = 0;
  for (std::uint32_t i = 0; i < pages_.size(); ++i) {
    const page_state& p = pages_[i];
    stored += p.tokens;
    if (p.tokens > page_tokens_) return broken(name(i) + " stores more than it can");
    if (free_.contains(i)) {
      ++num_free;
      if (p.ref_count != 0 || p.tokens != 0) return broken(name(i) + " is free but counts");
      if (p.leases != 0) return broken(name(i) + " is free but leased");
      if (!p.first.none()) return broken(name(i) + " is free but in a table");
      continue;
    }
    if (p.ref_count == 0 && p.leases == 0) return broken(name(i) + " is neither used nor free");
    if (auto holders = check_holders(p, i); !holders) return holders;
  }
  if (stored != stored_tokens_) return broken("the sum of stored tokens is wrong");
  if (num_free != free_.size()) return broken("the free list miscounts");
  const std::uint64_t used = pages_.size() - num_free;
  if (counts_.pages_allocated - counts_.pages_freed != used)
    return broken("pages allocated less pages freed is not pages used");
  return {};
}

result<void> page_store::check_holders(const page_state& p, std::uint32_t index) const {
  std::uint64_t count = p.outside;
  std::uint32_t most = p.outside_tokens;
  holder previous;
  for (holder h = p.first; !h.none();) {
    if (++count > p.ref_count) return broken(name(index) + " has more holders than references");
    if (h.slot >= slots_.size() || h.index >= slots_[h.slot].table.size())
      return broken(name(index) + " is held by no table");
    const sequence_state& s = slots_[h.slot];
    if (to_index(s.table[h.index]) != index)
      return broken(name(index) + " is not where it is held");
    const links& l = s.entries[h.index];
    if (l.previous.slot != previous.slot || l.previous.index != previous.index)
      return broken(name(index) + " has a torn list of holders");
    most = std::max(most, view(s, h.index));
    previous = h;
    h = l.next;
  }
  if (count != p.ref_count) return broken(name(index) + " has fewer holders than references");
  if (most != p.tokens)
    return broken(name(index) + " counts " + std::to_string(p.tokens) +
                  " tokens, its holders see " + std::to_string(most));
  return {};
}

result<void> page_store::check_tables() const {
  std::uint64_t entries = 0;
  std::uint64_t references = 0;
  std::size_t live = 0;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const sequence_state& s = slots_[slot];
    if (s.id == sequence_id{}) {
      if (!s.table.empty() || s.tokens != 0) return broken("a freed sequence holds pages");
      continue;
    }
    ++live;
    const std::string who = "sequence " + std::to_string(to_index(s.id));
    if (slot_by_id_.find(s.id) != slot) return broken(who + " cannot be found");
    if (s.tokens > std::uint64_t{s.table.size()} * page_tokens_)
      return broken(who + " stores more than its pages hold");
    if (s.entries.size() != s.table.size()) return broken(who + " has a torn table");
    for (const page_id id : s.table)
      if (to_index(id) >= pages_.size() || at(id).ref_count == 0)
        return broken(who + " holds a page that is free");
    entries += s.table.size();
  }
  for (const page_state& p : pages_) {
    references += p.ref_count;
    entries += p.outside;
  }
  if (entries != references) return broken("references from tables and outside do not add up");
  if (live != slot_by_id_.size()) return broken("the number of live sequences is wrong");
  if (counts_.sequences_allocated - counts_.sequences_freed != live)
    return broken("sequences allocated less sequences freed is not sequences live");
  return {};
}

}  // namespace quire
