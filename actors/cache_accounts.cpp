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
  last_activity_ = now;
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
  last_activity_ = now;
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
  last_activity_ = now;
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
