#include "memory/prefix_index.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "core/check.hpp"

namespace quire {
namespace {

constexpr std::uint32_t none = UINT32_MAX;

/// One step of the chain: xor, multiply by an odd constant, fold the high half down. Collisions are
/// harmless, every hit is compared token by token.
std::uint64_t chain_hash(std::uint64_t hash, std::span<const token_id> tokens) {
  for (const token_id token : tokens) {
    hash = (hash ^ to_index(token)) * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace

/// A tree: an entry is a full page, its parent the page before. An entry is busy when somebody else
/// holds its page or a child is busy; the leaves that are not busy wait in the order of eviction.
struct prefix_index::impl final : page_use_listener {
  struct entry {
    std::uint64_t hash = 0;
    std::uint64_t last_used = 0;
    page_id page{};
    std::uint32_t parent = none;
    std::uint32_t next_in_bucket = none;
    std::uint32_t children = 0;
    std::uint32_t busy_children = 0;
    bool in_use = false;  ///< by another than the index
    bool live = false;
    bool busy() const noexcept { return in_use || busy_children > 0; }
  };

  page_store& store;
  const std::uint64_t seed;
  const std::uint64_t hash_mask;
  std::vector<entry> entries;
  std::vector<token_id> tokens;  ///< [entry][page_tokens]
  std::vector<std::uint32_t> vacant;
  std::vector<std::uint32_t> buckets = std::vector<std::uint32_t>(64, none);
  std::vector<std::uint32_t> entry_of_page;
  std::set<std::pair<std::uint64_t, std::uint32_t>> evictable_leaves;  ///< (last used, entry)
  std::uint64_t clock = 0;
  std::uint32_t num_evictable = 0;
  prefix_stats counts;

  impl(page_store& s, std::uint64_t sd, std::uint64_t mask) : store(s), seed(sd), hash_mask(mask) {
    store.add_listener(*this);
  }
  impl(const impl&) = delete;
  impl& operator=(const impl&) = delete;
  ~impl() override {
    clear();
    store.remove_listener(*this);
  }

  std::span<const token_id> page_of(std::span<const token_id> all, std::uint32_t page) const {
    return all.subspan(std::size_t{page} * store.page_tokens(), store.page_tokens());
  }
  std::uint64_t root_hash() const { return seed & hash_mask; }
  std::uint64_t hash_after(std::uint32_t parent, std::span<const token_id> page) const {
    const std::uint64_t before = parent == none ? root_hash() : entries[parent].hash;
    return chain_hash(before, page) & hash_mask;
  }
  std::uint32_t& bucket_of(std::uint64_t hash) { return buckets[hash & (buckets.size() - 1)]; }
  std::uint32_t entry_at(page_id page) const {
    return to_index(page) < entry_of_page.size() ? entry_of_page[to_index(page)] : none;
  }

  std::uint32_t find(std::uint32_t parent, std::span<const token_id> page) const {
    const std::uint64_t hash = hash_after(parent, page);
    for (std::uint32_t i = buckets[hash & (buckets.size() - 1)]; i != none;
         i = entries[i].next_in_bucket) {
      // The same parent means the same tokens before; so only this page's need comparing.
      if (entries[i].hash != hash || entries[i].parent != parent) continue;
      const auto stored = tokens.begin() + std::ptrdiff_t{i} * store.page_tokens();
      if (std::equal(page.begin(), page.end(), stored)) return i;
    }
    return none;
  }

  void touch(std::uint32_t i) {
    entry& e = entries[i];
    const bool queued = e.children == 0 && !e.busy();
    if (queued) evictable_leaves.erase({e.last_used, i});
    e.last_used = clock;
    if (queued) evictable_leaves.emplace(e.last_used, i);
  }

  /// Makes the bookkeeping agree after the busy state of `i` may have changed from `was_busy`.
  void settle(std::uint32_t i, bool was_busy) {
    for (; i != none; i = entries[i].parent) {
      const entry& e = entries[i];
      const bool is_busy = e.busy();
      if (is_busy == was_busy) return;
      if (is_busy) {
        --num_evictable;
        if (e.children == 0) evictable_leaves.erase({e.last_used, i});
      } else {
        ++num_evictable;
        if (e.children == 0) evictable_leaves.emplace(e.last_used, i);
      }
      if (e.parent == none) return;
      entry& parent = entries[e.parent];
      was_busy = parent.busy();
      if (is_busy)
        ++parent.busy_children;
      else
        --parent.busy_children;
    }
  }

  void set_in_use(std::uint32_t i, bool in_use) {
    entry& e = entries[i];
    if (e.in_use == in_use) return;
    const bool was_busy = e.busy();
    e.in_use = in_use;
    if (!in_use) e.last_used = ++clock;  // used until now
    settle(i, was_busy);
  }

  void on_page_use(page_id page, bool idle) noexcept override {
    const std::uint32_t i = entry_at(page);
    if (i != none) set_in_use(i, !idle);
  }

  void grow_buckets() {
    buckets.assign(buckets.size() * 2, none);
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (!entries[i].live) continue;
      entries[i].next_in_bucket = std::exchange(bucket_of(entries[i].hash), i);
    }
  }

  std::uint32_t add(std::uint32_t parent, std::span<const token_id> page, page_id id) {
    if (counts.pages + 1 > buckets.size()) grow_buckets();
    std::uint32_t i = static_cast<std::uint32_t>(entries.size());
    if (vacant.empty()) {
      entries.emplace_back();
      tokens.resize(tokens.size() + store.page_tokens());
    } else {
      i = vacant.back();
      vacant.pop_back();
    }
    std::copy(page.begin(), page.end(), tokens.begin() + std::ptrdiff_t{i} * store.page_tokens());
    entry e;
    e.hash = hash_after(parent, page);
    e.last_used = clock;
    e.page = id;
    e.parent = parent;
    e.live = true;
    e.next_in_bucket = std::exchange(bucket_of(e.hash), i);
    entries[i] = e;
    ++counts.pages;
    if (parent != none) {
      entry& p = entries[parent];
      if (p.children++ == 0 && !p.busy()) evictable_leaves.erase({p.last_used, parent});
    }
    store.retain(id);
    if (to_index(id) >= entry_of_page.size()) entry_of_page.resize(store.num_pages(), none);
    entry_of_page[to_index(id)] = i;
    ++num_evictable;  // as if idle until now
    evictable_leaves.emplace(entries[i].last_used, i);
    set_in_use(i, true);  // a table holds it, else it could not be inserted
    return i;
  }

  /// Removes an entry without children and gives its reference back.
  void remove(std::uint32_t i) {
    if (entries[i].busy()) {
      entries[i].in_use = false;
      settle(i, true);
    }
    evictable_leaves.erase({entries[i].last_used, i});
    --num_evictable;
    const entry e = entries[i];
    std::uint32_t* link = &bucket_of(e.hash);
    while (*link != i) link = &entries[*link].next_in_bucket;
    *link = e.next_in_bucket;
    if (e.parent != none) {
      entry& p = entries[e.parent];
      if (--p.children == 0 && !p.busy()) evictable_leaves.emplace(p.last_used, e.parent);
    }
    entry_of_page[to_index(e.page)] = none;
    entries[i] = {};
    vacant.push_back(i);
    --counts.pages;
    store.release(e.page);
  }

  void clear() {
    // Children before parents: an entry is removed once nothing hangs on it.
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      std::uint32_t leaf = i;
      while (leaf != none && entries[leaf].live && entries[leaf].children == 0) {
        const std::uint32_t parent = entries[leaf].parent;
        remove(leaf);
        leaf = parent;
      }
    }
    QUIRE_CHECK(counts.pages == 0, "the prefix index holds an entry that nothing leads to");
  }
};

prefix_index::prefix_index(page_store& store, std::uint64_t seed, std::uint64_t hash_mask)
    : impl_(std::make_unique<impl>(store, seed, hash_mask)) {}
prefix_index::~prefix_index() = default;
prefix_index::prefix_index(prefix_index&&) noexcept = default;
prefix_index& prefix_index::operator=(prefix_index&&) noexcept = default;

std::vector<page_id> prefix_index::lookup(std::span<const token_id> tokens,
                                          std::uint64_t max_tokens) {
  impl& self = *impl_;
  const auto limit = static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens.size(), max_tokens) /
                                                self.store.page_tokens());
  ++self.clock;
  ++self.counts.lookups;
  std::vector<page_id> pages;
  std::uint32_t at = none;
  for (std::uint32_t page = 0; page < limit; ++page) {
    const std::uint32_t next = self.find(at, self.page_of(tokens, page));
    if (next == none) break;
    at = next;
    self.touch(at);
    pages.push_back(self.entries[at].page);
  }
  ++(pages.empty() ? self.counts.misses : self.counts.hits);
  self.counts.tokens_saved += std::uint64_t{pages.size()} * self.store.page_tokens();
  return pages;
}

std::uint32_t prefix_index::match_pages(std::span<const token_id> tokens,
                                        std::uint64_t max_tokens) const {
  const impl& self = *impl_;
  const auto limit = static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens.size(), max_tokens) /
                                                self.store.page_tokens());
  std::uint32_t page = 0;
  for (std::uint32_t at = none; page < limit; ++page) {
    at = self.find(at, self.page_of(tokens, page));
    if (at == none) break;
  }
  return page;
}

std::vector<prefix_index::twin> prefix_index::insert(std::span<const token_id> tokens,
                                                     std::span<const page_id> table,
                                                     std::uint32_t from_page) {
  impl& self = *impl_;
  const auto full = static_cast<std::uint32_t>(
      std::min<std::size_t>(tokens.size() / self.store.page_tokens(), table.size()));
  std::vector<twin> twins;
  if (from_page >= full) return twins;
  ++self.clock;
  // The entry of the page before, found by its page, holds the hash so far. It is missing when
  // another sequence's page stands for the same tokens or it was evicted: then walk from the front.
  std::uint32_t at = from_page > 0 ? self.entry_at(table[from_page - 1]) : none;
  for (std::uint32_t page = at == none ? 0 : from_page; page < full; ++page) {
    const std::span<const token_id> own = self.page_of(tokens, page);
    std::uint32_t next = self.find(at, own);
    if (next == none) {
      const page_info info = self.store.info(table[page]);
      if (info.tokens < self.store.page_tokens() || self.entry_at(table[page]) != none)
        return twins;
      next = self.add(at, own, table[page]);
    } else if (self.entries[next].page != table[page]) {
      twins.push_back({page, self.entries[next].page});
    }
    at = next;
    self.touch(at);
  }
  return twins;
}

std::uint32_t prefix_index::evict(std::uint32_t pages) {
  impl& self = *impl_;
  std::uint32_t freed = 0;
  while (freed < pages && !self.evictable_leaves.empty()) {
    self.remove(self.evictable_leaves.begin()->second);
    ++freed;
    ++self.counts.evictions;
  }
  return freed;
}

std::uint32_t prefix_index::evictable_pages() const {
  return impl_->num_evictable;
}

void prefix_index::on_moves(std::span<const std::pair<page_id, page_id>> moves) {
  impl& self = *impl_;
  for (const auto& [from, to] : moves) {
    const std::uint32_t i = self.entry_at(from);
    if (i == none) continue;
    self.entry_of_page[to_index(from)] = none;
    if (to_index(to) >= self.entry_of_page.size())
      self.entry_of_page.resize(self.store.num_pages(), none);
    self.entry_of_page[to_index(to)] = i;
    self.entries[i].page = to;
  }
  // What happened to the moved pages since was reported under numbers that meant nothing here.
  for (const auto& move : moves) {
    const std::uint32_t i = self.entry_at(move.second);
    if (i == none) continue;
    const page_info info = self.store.info(move.second);
    self.set_in_use(i, info.ref_count > 1 || info.leased);
  }
}

void prefix_index::clear() {
  impl_->clear();
}

prefix_stats prefix_index::stats() const {
  return impl_->counts;
}

std::vector<page_id> prefix_index::references() const {
  std::vector<page_id> pages;
  for (const impl::entry& e : impl_->entries)
    if (e.live) pages.push_back(e.page);
  return pages;
}

}  // namespace quire
