#include "memory/page_store.hpp"

#include <algorithm>
#include <string>

#include "core/check.hpp"

namespace quire {
namespace {

/// Bounds the memory that a count from a user can claim for bookkeeping; 2^26 pages are 1 G tokens.
constexpr std::uint32_t max_pages = 1u << 26;

/// How many free runs an allocation looks at before it takes scattered pages.
constexpr int runs_to_try = 8;

/// Tables longer than this give their memory back when their sequence ends.
constexpr std::size_t kept_table_entries = 1024;

tl::unexpected<error> no_sequence(sequence_id id) {
  return fail(errc::sequence_not_found, "no live sequence has id " + std::to_string(to_index(id)),
              {to_index(id), 0});
}

tl::unexpected<error> no_pages(std::uint64_t needed, std::uint64_t available) {
  return fail(errc::out_of_pages,
              std::to_string(needed) + " free pages are needed, " + std::to_string(available) +
                  " are available",
              {needed, available});
}

tl::unexpected<error> no_such_page(std::uint64_t page, std::uint64_t position) {
  return fail(errc::invalid_page_access,
              "position " + std::to_string(position) + " lies in page " + std::to_string(page) +
                  " of the sequence, past its block table",
              {page, position});
}

std::uint64_t ceil_div(std::uint64_t tokens, std::uint32_t page_tokens) {
  return tokens / page_tokens + (tokens % page_tokens != 0 ? 1 : 0);
}

}  // namespace

result<page_store> page_store::make(std::uint32_t num_pages, std::uint32_t page_tokens) {
  if (page_tokens == 0)
    return fail(errc::invalid_argument, "page_tokens is 0; a page holds at least one token");
  if (num_pages > max_pages)
    return fail(errc::invalid_argument, std::to_string(num_pages) + " pages are more than the " +
                                            std::to_string(max_pages) + " that a store can hold");
  page_store store;
  store.page_tokens_ = page_tokens;
  store.resize(num_pages);
  return store;
}

std::uint32_t page_store::num_pages() const noexcept {
  return static_cast<std::uint32_t>(pages_.size());
}
std::uint32_t page_store::page_tokens() const noexcept {
  return page_tokens_;
}
std::uint32_t page_store::free_pages() const noexcept {
  return free_.size();
}

std::uint32_t page_store::tail_begin() const noexcept {
  const std::uint32_t last_used = free_.previous_absent(num_pages());
  return last_used == page_set::none ? 0 : last_used + 1;
}

std::uint32_t page_store::pages_for(std::uint64_t tokens) const noexcept {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(ceil_div(tokens, page_tokens_), UINT32_MAX));
}

std::uint32_t page_store::resize(std::uint32_t num_pages) {
  num_pages = std::min(num_pages, max_pages);
  auto count = static_cast<std::uint32_t>(pages_.size());
  if (num_pages > count) {
    pages_.resize(num_pages);
    free_.resize(num_pages);
    for (; count < num_pages; ++count) free_.insert(count);
    return count;
  }
  for (; count > num_pages && free_.contains(count - 1); --count) free_.erase(count - 1);
  pages_.resize(count);
  free_.resize(count);
  return count;
}

// --- sequences -------------------------------------------------------------------------------

page_store::sequence_state* page_store::find(sequence_id id) noexcept {
  const std::uint32_t slot = slot_by_id_.find(id);
  return slot == sequence_slots::none ? nullptr : &slots_[slot];
}

const page_store::sequence_state* page_store::find(sequence_id id) const noexcept {
  const std::uint32_t slot = slot_by_id_.find(id);
  return slot == sequence_slots::none ? nullptr : &slots_[slot];
}

std::uint32_t page_store::slot_of(const sequence_state& s) const noexcept {
  return static_cast<std::uint32_t>(&s - slots_.data());
}

std::uint32_t page_store::new_slot() {
  std::uint32_t slot = 0;
  if (vacant_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = vacant_slots_.back();
    vacant_slots_.pop_back();
  }
  slots_[slot].id = sequence_id{++last_id_};
  slots_[slot].tokens = 0;
  slot_by_id_.insert(slots_[slot].id, slot);
  ++counts_.sequences_allocated;
  return slot;
}

result<sequence_id> page_store::allocate(std::uint64_t tokens) {
  return allocate_shared({}, tokens);
}

result<sequence_id> page_store::allocate_shared(std::span<const page_id> prefix,
                                                std::uint64_t tokens) {
  const std::uint64_t wanted = ceil_div(tokens, page_tokens_);
  const std::uint64_t missing = wanted > prefix.size() ? wanted - prefix.size() : 0;
  if (missing > free_.size()) return no_pages(missing, free_.size());
  for (const page_id id : prefix) {
    QUIRE_CHECK(to_index(id) < pages_.size() && at(id).ref_count > 0, "a prefix page is not used");
    QUIRE_CHECK(at(id).tokens == page_tokens_, "a prefix page is not full");
  }
  sequence_state& s = slots_[new_slot()];
  s.tokens = std::uint64_t{prefix.size()} * page_tokens_;
  for (const page_id id : prefix) {
    s.table.push_back(id);
    s.entries.emplace_back();
    attach(id, {slot_of(s), static_cast<std::uint32_t>(s.table.size() - 1)});
  }
  append_pages(s, static_cast<std::uint32_t>(missing));
  return s.id;
}

result<void> page_store::extend(sequence_id id, std::uint64_t tokens) {
  sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  const std::uint64_t total = tokens > UINT64_MAX - s->tokens ? UINT64_MAX : s->tokens + tokens;
  const std::uint64_t wanted = ceil_div(total, page_tokens_);
  if (wanted <= s->table.size()) return {};
  const std::uint64_t missing = wanted - s->table.size();
  if (missing > free_.size()) return no_pages(missing, free_.size());
  append_pages(*s, static_cast<std::uint32_t>(missing));
  return {};
}

result<void> page_store::update_tokens(sequence_id id, std::uint64_t tokens,
                                       std::vector<page_copy>& copies) {
  sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  const std::uint64_t room = std::uint64_t{s->table.size()} * page_tokens_;
  if (tokens > room)
    return fail(errc::out_of_bounds,
                std::to_string(tokens) + " tokens do not fit in the " + std::to_string(room) +
                    " that the sequence has pages for; extend it first",
                {tokens, room});
  const auto first = static_cast<std::uint32_t>(std::min(s->tokens, tokens) / page_tokens_);
  const auto end = static_cast<std::uint32_t>(ceil_div(std::max(s->tokens, tokens), page_tokens_));
  if (tokens < s->tokens) {
    s->tokens = tokens;
    for (std::uint32_t i = first; i < end; ++i) refresh_tokens(s->table[i]);
    return {};
  }
  if (tokens == s->tokens) return {};
  std::uint32_t shared = 0;
  for (std::uint32_t i = first; i < end; ++i) shared += at(s->table[i]).ref_count > 1 ? 1 : 0;
  if (shared > free_.size()) return no_pages(shared, free_.size());
  for (std::uint32_t i = first; i < end; ++i) {
    if (at(s->table[i]).ref_count == 1) continue;
    const page_copy copy = unshare(*s, i);
    if (copy.tokens > 0) copies.push_back(copy);
  }
  s->tokens = tokens;
  for (std::uint32_t i = first; i < end; ++i) set_tokens(s->table[i], view(*s, i));
  return {};
}

result<void> page_store::truncate(sequence_id id, std::uint64_t tokens) {
  sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  if (tokens > s->tokens)
    return fail(errc::out_of_bounds,
                "cannot truncate to " + std::to_string(tokens) + " tokens: only " +
                    std::to_string(s->tokens) + " are stored",
                {tokens, s->tokens});
  s->tokens = tokens;
  const std::uint64_t kept = ceil_div(tokens, page_tokens_);
  while (s->table.size() > kept) drop_back(*s);
  if (tokens % page_tokens_ != 0) refresh_tokens(s->table.back());
  return {};
}

result<sequence_id> page_store::fork(sequence_id id) {
  const std::uint32_t source = slot_by_id_.find(id);
  if (source == sequence_slots::none) return no_sequence(id);
  sequence_state& s = slots_[new_slot()];
  const sequence_state& from = slots_[source];
  s.tokens = from.tokens;
  s.table = from.table;
  s.entries.resize(s.table.size());
  for (std::uint32_t i = 0; i < s.table.size(); ++i) attach(s.table[i], {slot_of(s), i});
  ++counts_.cow_operations;
  return s.id;
}

bool page_store::adopt(sequence_id id, std::uint32_t index, page_id known) {
  sequence_state* s = find(id);
  QUIRE_CHECK(s != nullptr && index < s->table.size(), "no page to replace");
  const page_id own = s->table[index];
  QUIRE_CHECK(view(*s, index) == page_tokens_ && at(known).tokens == page_tokens_ && own != known,
              "only a full page is replaced, by another full one");
  if (at(own).ref_count > 1 || at(own).leases > 0) return false;
  const holder h{slot_of(*s), index};
  detach(own, h);
  s->table[index] = known;
  attach(known, h);
  settle(own);
  return true;
}

void page_store::free(sequence_id id) {
  sequence_state* s = find(id);
  if (s == nullptr) return;
  while (!s->table.empty()) drop_back(*s);
  if (s->table.capacity() > kept_table_entries) {
    s->table = {};
    s->entries = {};
  }
  s->tokens = 0;
  slot_by_id_.erase(id);
  s->id = {};
  vacant_slots_.push_back(slot_of(*s));
  ++counts_.sequences_freed;
}

// --- pages of a sequence ---------------------------------------------------------------------

result<page_info> page_store::page_for_reading(sequence_id id, std::uint64_t position) const {
  const sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  const std::uint64_t index = position / page_tokens_;
  if (index >= s->table.size()) return no_such_page(index, position);
  return info(s->table[index]);
}

result<writable_page> page_store::page_for_writing(sequence_id id, std::uint64_t position) {
  sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  const std::uint64_t index = position / page_tokens_;
  if (index >= s->table.size()) return no_such_page(index, position);
  writable_page page;
  if (at(s->table[index]).ref_count > 1) {
    if (free_.size() == 0) return no_pages(1, 0);
    const page_copy copy = unshare(*s, static_cast<std::uint32_t>(index));
    if (copy.tokens > 0) page.copy = copy;
  }
  page.info = info(s->table[index]);
  return page;
}

result<std::uint64_t> page_store::slot(sequence_id id, std::uint64_t position) const {
  const sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  const std::uint64_t index = position / page_tokens_;
  if (index >= s->table.size()) {
    const std::uint64_t room = std::uint64_t{s->table.size()} * page_tokens_;
    return fail(errc::out_of_bounds,
                "position " + std::to_string(position) + " is past the " + std::to_string(room) +
                    " tokens that the sequence has pages for",
                {position, room});
  }
  return std::uint64_t{to_index(s->table[index])} * page_tokens_ + position % page_tokens_;
}

result<std::uint64_t> page_store::tokens(sequence_id id) const {
  const sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  return s->tokens;
}

result<std::uint64_t> page_store::capacity(sequence_id id) const {
  const sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  return std::uint64_t{s->table.size()} * page_tokens_;
}

result<double> page_store::contiguity(sequence_id id) const {
  const sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  if (s->table.size() < 2) return 1.0;
  std::size_t adjacent = 0;
  for (std::size_t i = 1; i < s->table.size(); ++i)
    adjacent += to_index(s->table[i]) == to_index(s->table[i - 1]) + 1 ? 1u : 0u;
  return static_cast<double>(adjacent) / static_cast<double>(s->table.size() - 1);
}

result<std::span<const page_id>> page_store::table(sequence_id id) const {
  const sequence_state* s = find(id);
  if (s == nullptr) return no_sequence(id);
  return std::span<const page_id>(s->table);
}

// --- references and leases -------------------------------------------------------------------

void page_store::retain(page_id id) {
  QUIRE_CHECK(to_index(id) < pages_.size() && at(id).ref_count > 0, "retain of a page not used");
  page_state& p = at(id);
  ++p.ref_count;
  ++p.outside;
  p.outside_tokens = p.tokens;
  note_use(id);
}

void page_store::release(page_id id) {
  QUIRE_CHECK(to_index(id) < pages_.size() && at(id).outside > 0, "release without retain");
  page_state& p = at(id);
  --p.ref_count;
  if (--p.outside == 0) p.outside_tokens = 0;
  note_use(id);
  settle(id);
}

page_info page_store::info(page_id id) const {
  QUIRE_CHECK(to_index(id) < pages_.size(), "no such page");
  const page_state& p = at(id);
  return {id, p.ref_count, p.tokens, p.leases > 0};
}

void page_store::add_listener(page_use_listener& listener) {
  listeners_.push_back(&listener);
}

void page_store::remove_listener(page_use_listener& listener) {
  listeners_.erase(std::remove(listeners_.begin(), listeners_.end(), &listener), listeners_.end());
}

void page_store::lease(std::span<const page_id> pages) {
  for (const page_id id : pages) {
    QUIRE_CHECK(to_index(id) < pages_.size() && at(id).ref_count > 0, "lease of a page not used");
    ++at(id).leases;
    note_use(id);
  }
}

void page_store::unlease(std::span<const page_id> pages) {
  for (const page_id id : pages) {
    QUIRE_CHECK(to_index(id) < pages_.size() && at(id).leases > 0, "unlease without lease");
    --at(id).leases;
    note_use(id);
    if (at(id).ref_count == 0) settle(id);
  }
}

// --- private ---------------------------------------------------------------------------------

std::uint32_t page_store::view(const sequence_state& s, std::uint32_t index) const noexcept {
  const std::uint64_t begin = std::uint64_t{index} * page_tokens_;
  if (s.tokens <= begin) return 0;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(s.tokens - begin, page_tokens_));
}

page_id page_store::take_page(std::uint32_t preferred) {
  const std::uint32_t page = free_.contains(preferred) ? preferred : free_.next(0);
  QUIRE_CHECK(page != page_set::none, "a page was taken from an empty free list");
  free_.erase(page);
  ++counts_.pages_allocated;
  return page_id{page};
}

std::uint32_t page_store::place_for(const sequence_state& s, std::uint32_t pages) const noexcept {
  if (!s.table.empty() && free_.contains(to_index(s.table.back()) + 1))
    return to_index(s.table.back()) + 1;
  // Low pages keep the tail empty, one run keeps the table adjacent: the lowest run that fits,
  // unless looking for it takes long.
  std::uint32_t begin = free_.next(0);
  for (int run = 0; run < runs_to_try && begin != page_set::none; ++run) {
    const std::uint32_t end = free_.next_absent(begin);
    if (end - begin >= pages) return begin;
    begin = free_.next(end);
  }
  return page_set::none;
}

void page_store::append_pages(sequence_state& s, std::uint32_t pages) {
  if (pages == 0) return;
  std::uint32_t preferred = place_for(s, pages);
  for (std::uint32_t i = 0; i < pages; ++i) {
    const page_id id = take_page(preferred);
    s.table.push_back(id);
    s.entries.emplace_back();
    attach(id, {slot_of(s), static_cast<std::uint32_t>(s.table.size() - 1)});
    preferred = to_index(id) + 1;
  }
}

void page_store::attach(page_id id, holder h) noexcept {
  page_state& p = at(id);
  links_of(h) = {p.first, {}};
  if (!p.first.none()) links_of(p.first).previous = h;
  p.first = h;
  ++p.ref_count;
  note_use(id);
}

void page_store::detach(page_id id, holder h) noexcept {
  page_state& p = at(id);
  const links own = links_of(h);
  if (own.previous.none())
    p.first = own.next;
  else
    links_of(own.previous).next = own.next;
  if (!own.next.none()) links_of(own.next).previous = own.previous;
  --p.ref_count;
  note_use(id);
}

void page_store::note_use(page_id id) noexcept {
  page_state& p = at(id);
  const bool idle = p.outside == 1 && p.ref_count == 1 && p.leases == 0;
  if (idle == p.idle) return;
  p.idle = idle;
  for (page_use_listener* listener : listeners_) listener->on_page_use(id, idle);
}

void page_store::drop_back(sequence_state& s) noexcept {
  const page_id id = s.table.back();
  detach(id, {slot_of(s), static_cast<std::uint32_t>(s.table.size() - 1)});
  s.table.pop_back();
  s.entries.pop_back();
  settle(id);
}

void page_store::settle(page_id id) noexcept {
  page_state& p = at(id);
  if (p.ref_count > 0) {
    refresh_tokens(id);
    return;
  }
  set_tokens(id, 0);
  if (p.leases > 0) return;  // a step still reads it: free only at unlease
  free_.insert(to_index(id));
  ++counts_.pages_freed;
}

void page_store::refresh_tokens(page_id id) noexcept {
  const page_state& p = at(id);
  std::uint32_t most = p.outside_tokens;
  // No holder sees more than the page's tokens, so the first that sees as many ends the search.
  for (holder h = p.first; !h.none() && most < p.tokens; h = links_of(h).next)
    most = std::max(most, view(slots_[h.slot], h.index));
  set_tokens(id, most);
}

void page_store::set_tokens(page_id id, std::uint32_t tokens) noexcept {
  page_state& p = at(id);
  stored_tokens_ = stored_tokens_ - p.tokens + tokens;
  p.tokens = tokens;
}

page_copy page_store::unshare(sequence_state& s, std::uint32_t index) {
  const page_id old = s.table[index];
  const std::uint32_t preferred = index > 0 ? to_index(s.table[index - 1]) + 1 : page_set::none;
  const page_id fresh = take_page(preferred);
  const holder h{slot_of(s), index};
  const std::uint32_t filled = view(s, index);
  detach(old, h);
  s.table[index] = fresh;
  attach(fresh, h);
  set_tokens(fresh, filled);
  settle(old);
  ++counts_.cow_operations;
  return {old, fresh, filled};
}

}  // namespace quire
