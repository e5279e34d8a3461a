#include "actors/cache_accounts.hpp"

#include <algorithm>
#include <string>

#include "core/check.hpp"

namespace quire {

namespace {
/// A request waits at most this long for pages that another one computes; then it computes them.
constexpr std::chrono::seconds prefix_patience{30};
}  // namespace

result<std::unique_ptr<cache_accounts>> cache_accounts::make(std::uint32_t num_pages,
                                                             std::uint32_t page_tokens,
                                                             options chosen) {
  auto store = page_store::make(num_pages, page_tokens);
  if (!store) return tl::unexpected(store.error());
  return std::unique_ptr<cache_accounts>(new cache_accounts(std::move(*store), chosen));
}

cache_accounts::cache_accounts(page_store store, options chosen)
    : options_(chosen),
      store_(std::move(store)),
      index_(store_, chosen.index_seed),
      ledger_(chosen.ledger) {}

// --- negotiation -----------------------------------------------------------------------------

std::uint32_t cache_accounts::pages_needed(const budget_terms& terms,
                                           std::uint64_t sequence_tokens) const {
  const std::uint64_t final_pages = store_.pages_for(sequence_tokens);
  if (terms.num_sequences <= 1) return static_cast<std::uint32_t>(final_pages);
  const std::uint64_t shared = terms.shared_tokens / store_.page_tokens();
  const std::uint64_t all = shared + terms.num_sequences * (final_pages - shared);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(all, UINT32_MAX));
}

bool cache_accounts::fits(std::uint64_t pages) const {
  const std::uint64_t wanted = ledger_.promised() + pages;
  return wanted <= std::uint64_t{store_.free_pages()} + index_.evictable_pages();
}

budget_answer cache_accounts::negotiate(budget_terms terms, moment now) {
  const std::uint64_t final_tokens = std::max(terms.final_tokens, terms.sequence_tokens);
  if (const std::uint32_t most = pages_needed(terms, final_tokens); most > store_.num_pages()) {
    ++counters_.refusals;
    return refusal{terms.num_sequences <= 1 ? final_tokens
                                            : std::uint64_t{most} * store_.page_tokens(),
                   std::uint64_t{store_.num_pages()} * store_.page_tokens()};
  }
  if (terms.resumed) ++counters_.recomputes;
  const std::uint32_t needed = pages_needed(terms, terms.sequence_tokens);
  const ticket_id ticket{++last_ticket_};
  account& asked = accounts_[ticket];
  asked.final_pages = store_.pages_for(terms.sequence_tokens);
  asked.unforked = std::max(terms.num_sequences, 1u) - 1;
  asked.waits_since = now;
  if (options_.prefix_cache && terms.keep_prefix)
    asked.hashes =
        prefix_watch::page_hashes(*terms.prompt, store_.page_tokens(), terms.prompt->size());
  if (!options_.prefix_cache) terms.max_cached_tokens = 0;
  asked.terms = std::move(terms);

  ledger_.enqueue(ticket, asked.terms.priority, needed, asked.terms.arrived.value_or(now));
  bool others_first = false;
  for (const auto& place : ledger_.queue()) {
    if (place.ticket == ticket) break;
    const account& ahead = accounts_.at(place.ticket);
    others_first = ahead.waits_for == 0 || !watch_.pending(ahead.waits_for);
    if (others_first) break;
  }
  const bool for_prefix = waits_for_prefix(asked, now);
  if (!others_first && !for_prefix)
    if (auto made = try_offer(ticket, asked, now)) return *made;
  ++counters_.counter_offers;
  if (for_prefix) ++counters_.prefix_waits;
  return counter_offer{ticket, ledger_.position(ticket),
                       ledger_.time_until(ledger_.pages_until(ticket), now), for_prefix};
}

bool cache_accounts::waits_for_prefix(account& asked, moment now) {
  if (now - asked.waits_since > prefix_patience) return false;
  if (asked.waits_for != 0 && watch_.pending(asked.waits_for)) return true;
  asked.waits_for = 0;
  const std::uint64_t cacheable =
      std::min<std::uint64_t>(asked.terms.max_cached_tokens / store_.page_tokens(),
                              asked.hashes.size());
  if (cacheable == 0) return false;
  const std::uint32_t known = index_.match_pages(*asked.terms.prompt, asked.terms.max_cached_tokens);
  if (known >= cacheable || !watch_.pending(asked.hashes[known])) return false;
  asked.waits_for = asked.hashes[known];
  return true;
}

std::optional<offer> cache_accounts::try_offer(ticket_id ticket, account& asked, moment now) {
  const budget_terms& terms = asked.terms;
  const std::uint32_t needed = pages_needed(terms, terms.sequence_tokens);
  std::vector<page_id> prefix;
  if (terms.max_cached_tokens > 0) {
    if (!fits(needed - index_.match_pages(*terms.prompt, terms.max_cached_tokens)))
      return std::nullopt;
    prefix = index_.lookup(*terms.prompt, terms.max_cached_tokens);
  }
  // Taking the prefix first makes its pages count as used, no longer as evictable.
  const auto sequence = store_.allocate_shared(prefix, 0);
  QUIRE_CHECK(sequence.has_value(), "a sequence without own pages could not be made");
  const auto cached_pages = static_cast<std::uint32_t>(prefix.size());
  if (!fits(needed - cached_pages)) {
    store_.free(*sequence);
    return std::nullopt;
  }
  const std::uint32_t cached_tokens = cached_pages * store_.page_tokens();
  ledger_.leave_queue(ticket);
  ledger_.offer(ticket, now);
  asked.members = {*sequence};
  members_[*sequence] = member{ticket, *terms.prompt, cached_tokens, cached_pages};
  settle(ticket, asked);
  if (terms.keep_prefix) watch_.begin(*sequence, asked.hashes, cached_pages);
  ++counters_.offers;
  counters_.cached_tokens += cached_tokens;
  return offer{ticket, *sequence, cached_tokens, needed - cached_pages};
}

result<void> cache_accounts::accept(ticket_id ticket) {
  if (!ledger_.accept(ticket))
    return fail(errc::deadline_exceeded, "the offer of pages expired before it was accepted");
  return {};
}

void cache_accounts::drop(ticket_id ticket, moment now) {
  const auto found = accounts_.find(ticket);
  if (found == accounts_.end()) return;
  std::uint32_t pages = ledger_.promised(ticket);
  for (const sequence_id sequence : found->second.members) {
    pages += static_cast<std::uint32_t>(store_.table(sequence)->size());
    watch_.end(sequence);
    store_.free(sequence);
    members_.erase(sequence);
  }
  accounts_.erase(found);
  ledger_.drop(ticket);
  ledger_.returned(pages, now);
  changed_ = true;
}

std::vector<offer> cache_accounts::serve_queue(moment now) {
  for (const ticket_id late : ledger_.expired(now)) {
    ++counters_.expired_offers;
    drop(late, now);
  }
  std::vector<offer> made;
  if (!changed_) return made;
  changed_ = false;
  for (auto at = ledger_.queue().begin(); at != ledger_.queue().end();) {
    const ticket_id ticket = (at++)->ticket;  // an offer takes the place out of the queue
    account& asked = accounts_.at(ticket);
    if (waits_for_prefix(asked, now)) continue;
    const auto next = try_offer(ticket, asked, now);
    if (!next) break;  // whoever is next waits for memory, and all behind wait with them
    made.push_back(*next);
  }
  return made;
}

// --- sequences -------------------------------------------------------------------------------

// Pages that the sequences of an account may still take: what their tables lack at the end, and one
// copy for every sharer of a partly filled page but the last, who writes in place.
std::uint32_t cache_accounts::open_pages(const account& held) const {
  std::uint32_t open = 0;
  std::unordered_map<page_id, std::uint32_t> sharers;
  for (const sequence_id sequence : held.members) {
    const auto table = *store_.table(sequence);
    open += held.final_pages - static_cast<std::uint32_t>(table.size());
    if (held.members.size() < 2) continue;
    const std::uint32_t stored = members_.at(sequence).stored;
    const std::uint32_t index = stored / store_.page_tokens();
    if (stored % store_.page_tokens() == 0 || index >= table.size()) continue;
    if (sharers[table[index]]++ > 0) ++open;
  }
  const auto shared = static_cast<std::uint32_t>(held.terms.shared_tokens / store_.page_tokens());
  return open + held.unforked * (held.final_pages - shared);
}

void cache_accounts::settle(ticket_id ticket, const account& held) {
  ledger_.promise(ticket, open_pages(held));
}

result<void> cache_accounts::extend(sequence_id sequence, std::uint64_t sequence_tokens) {
  const auto found = members_.find(sequence);
  if (found == members_.end())
    return fail(errc::sequence_not_found,
                "no live sequence has id " + std::to_string(to_index(sequence)),
                {to_index(sequence), 0});
  const ticket_id ticket = found->second.ticket;
  account& held = accounts_.at(ticket);
  const std::uint32_t wanted = store_.pages_for(sequence_tokens);
  if (wanted <= held.final_pages) return {};
  const std::uint32_t more = wanted - held.final_pages;
  if (held.terms.num_sequences > 1 || !fits(more)) {
    ++counters_.denied_extensions;
    return fail(errc::out_of_pages,
                "the budget cannot grow by " + std::to_string(more) + " pages at the moment",
                {more, store_.free_pages()});
  }
  ++counters_.extensions;
  held.final_pages = wanted;
  settle(ticket, held);
  return {};
}

result<std::vector<sequence_id>> cache_accounts::fork(sequence_id parent, std::uint32_t count) {
  const auto found = members_.find(parent);
  if (found == members_.end())
    return fail(errc::sequence_not_found,
                "no live sequence has id " + std::to_string(to_index(parent)),
                {to_index(parent), 0});
  const ticket_id ticket = found->second.ticket;
  account& held = accounts_.at(ticket);
  if (count > held.unforked)
    return fail(errc::out_of_pages,
                "the budget allows " + std::to_string(held.unforked) + " more sequences, not " +
                    std::to_string(count),
                {count, held.unforked});
  std::vector<sequence_id> children;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto child = store_.fork(parent);
    QUIRE_CHECK(child.has_value(), "a live sequence could not be forked");
    const member copy = members_.at(parent);  // a copy: the map may move its elements
    members_.emplace(*child, copy);
    held.members.push_back(*child);
    children.push_back(*child);
  }
  held.unforked -= count;
  settle(ticket, held);
  return children;
}

result<void> cache_accounts::truncate(sequence_id sequence, std::uint64_t tokens) {
  if (auto done = store_.truncate(sequence, tokens); !done) return done;
  member& shortened = members_.at(sequence);
  const auto kept = static_cast<std::uint32_t>(tokens);
  shortened.stored = kept;
  shortened.tokens.resize(std::min<std::size_t>(shortened.tokens.size(), kept));
  shortened.indexed_pages = std::min(shortened.indexed_pages, kept / store_.page_tokens());
  settle(shortened.ticket, accounts_.at(shortened.ticket));
  changed_ = true;
  return {};
}

void cache_accounts::release(sequence_id sequence, moment now) {
  const auto found = members_.find(sequence);
  if (found == members_.end()) return;
  const ticket_id ticket = found->second.ticket;
  account& held = accounts_.at(ticket);
  if (held.members.size() == 1) return drop(ticket, now);
  const auto pages = static_cast<std::uint32_t>(store_.table(sequence)->size());
  const std::uint32_t before = ledger_.promised(ticket);
  watch_.end(sequence);
  store_.free(sequence);
  members_.erase(found);
  std::erase(held.members, sequence);
  settle(ticket, held);
  ledger_.returned(pages + before - std::min(before, ledger_.promised(ticket)), now);
  changed_ = true;
}

// --- steps -----------------------------------------------------------------------------------

bool cache_accounts::make_room(std::uint32_t pages) {
  if (store_.free_pages() >= pages) return true;
  index_.evict(pages - store_.free_pages());
  // Leaf-first eviction can be stuck behind a leaf that a running sequence holds; promises rest on
  // every page that only the index holds, so as a last resort all of them are given up.
  if (store_.free_pages() < pages) index_.clear();
  return store_.free_pages() >= pages;
}

bool cache_accounts::grow(member& grown, const lease_item& item, std::vector<page_copy>& copies) {
  const account& held = accounts_.at(grown.ticket);
  const std::uint32_t stored = grown.stored + item.num_tokens;
  const std::uint32_t wanted = store_.pages_for(stored);
  QUIRE_CHECK(wanted <= held.final_pages, "a step goes beyond the budget of its request");
  const auto table = *store_.table(item.sequence);
  const auto had = static_cast<std::uint32_t>(table.size());
  const std::uint32_t index = grown.stored / store_.page_tokens();
  const bool shared = index < had && store_.info(table[index]).shared();
  const std::uint32_t missing = wanted > had ? wanted - had : 0;
  if (!make_room(missing + (shared ? 1 : 0))) return false;
  const std::size_t copies_before = copies.size();
  if (!store_.extend(item.sequence, item.num_tokens)) return false;
  if (!store_.update_tokens(item.sequence, stored, copies)) return false;
  grown.tokens.insert(grown.tokens.end(), item.generated.begin(), item.generated.end());
  grown.stored = stored;
  QUIRE_CHECK(grown.tokens.size() >= stored, "a lease stores tokens that nobody named");
  counters_.page_copies += copies.size() - copies_before;
  for (const page_id page : store_.table(item.sequence)->subspan(std::min(index, had)))
    touched_pages_ = std::max(touched_pages_, to_index(page) + 1);
  if (missing > 0 || copies.size() != copies_before) settle(grown.ticket, held);
  return true;
}

lease_grant cache_accounts::lease_one(const lease_item& item, std::vector<page_copy>& copies) {
  lease_grant given;
  given.sequence = item.sequence;
  const auto found = members_.find(item.sequence);
  if (found == members_.end()) return given;
  given.first_position = found->second.stored;
  if (!grow(found->second, item, copies)) {
    ++counters_.denied_leases;
    given.what = lease_grant::outcome::denied;
    return given;
  }
  const auto table = *store_.table(item.sequence);
  given.what = lease_grant::outcome::granted;
  given.table.assign(table.begin(), table.end());
  store_.lease(given.table);
  live_->items.push_back({item.sequence, given.table});
  return given;
}

step_pages cache_accounts::lease(std::uint64_t step, std::span<const lease_item> items, bool idle) {
  QUIRE_CHECK(!live_, "a step was leased while another is live");
  live_.emplace();
  live_->step = step;
  step_pages pages;
  pages.step = step;
  tidy(idle, pages);
  pages.grants.reserve(items.size());
  live_->items.reserve(items.size());
  for (const lease_item& item : items) pages.grants.push_back(lease_one(item, pages.copies));
  for (const page_copy& copy : pages.copies) live_->targets.push_back(copy.to);
  return pages;
}

void cache_accounts::tidy(bool idle, step_pages& pages) {
  const auto& how = options_.defragment;
  const bool wanted = idle ? how.idle : store_.should_defragment(how.threshold);
  std::uint32_t moved = 0;
  if (wanted) moved = store_.defragment(how.max_moves_per_step, pages.copies);
  if (moved > 0) {
    index_.on_moves(store_.take_moves());
    live_->moved = true;
    for (const page_copy& copy : pages.copies)
      touched_pages_ = std::max(touched_pages_, to_index(copy.to) + 1);
  } else if (idle) {
    pages.trim_from_page = tail_to_trim();
  }
}

std::optional<std::uint32_t> cache_accounts::tail_to_trim() {
  std::uint32_t tail = touched_pages_;
  while (tail > options_.min_pages && store_.info(page_id{tail - 1}).ref_count == 0) --tail;
  if (tail == touched_pages_) return std::nullopt;
  touched_pages_ = tail;
  return tail;
}

std::vector<sequence_id> cache_accounts::end_step(std::uint64_t step, bool succeeded,
                                                  std::span<const sequence_id> not_run) {
  if (!live_ || live_->step != step) return {};
  const live_lease ended = std::move(*live_);
  live_.reset();
  for (const live_item& item : ended.items) store_.unlease(item.table);
  changed_ = true;
  if (!succeeded) return lost_in(ended);
  if (options_.prefix_cache)
    for (const live_item& item : ended.items)
      if (std::find(not_run.begin(), not_run.end(), item.sequence) == not_run.end())
        index_full_pages(item);
  return {};
}

// A failed step may not have moved the pages that it should have: whatever they belong to is lost.
std::vector<sequence_id> cache_accounts::lost_in(const live_lease& failed) {
  std::vector<sequence_id> lost;
  if (!failed.moved) return lost;
  index_.clear();
  for (const auto& [sequence, about] : members_) {
    const auto table = *store_.table(sequence);
    if (std::find_first_of(table.begin(), table.end(), failed.targets.begin(),
                           failed.targets.end()) != table.end())
      lost.push_back(sequence);
  }
  counters_.lost_sequences += lost.size();
  return lost;
}

void cache_accounts::index_full_pages(const live_item& item) {
  const auto found = members_.find(item.sequence);
  if (found == members_.end()) return;
  member& grown = found->second;
  const std::uint32_t full = grown.stored / store_.page_tokens();
  if (full <= grown.indexed_pages || !accounts_.at(grown.ticket).terms.keep_prefix) return;
  index_.insert(std::span(grown.tokens).first(grown.stored), *store_.table(item.sequence),
                grown.indexed_pages);
  grown.indexed_pages = full;
  watch_.advance(item.sequence, full);
}

result<void> cache_accounts::check() const {
  const auto references = index_.references();
  if (auto sound = store_.check(references); !sound) return sound;
  std::uint64_t reclaimable = store_.free_pages();
  for (const page_id page : references)
    if (store_.info(page).ref_count == 1) ++reclaimable;
  if (ledger_.promised() > reclaimable)
    return fail(errc::internal, std::to_string(ledger_.promised()) + " pages are promised, only " +
                                    std::to_string(reclaimable) + " could be given");
  for (const auto& [ticket, held] : accounts_)
    if (!held.members.empty() && ledger_.promised(ticket) != open_pages(held))
      return fail(errc::internal, "ticket " + std::to_string(static_cast<std::uint64_t>(ticket)) +
                                      " is promised " + std::to_string(ledger_.promised(ticket)) +
                                      " pages and may take " + std::to_string(open_pages(held)));
  return {};
}

}  // namespace quire
