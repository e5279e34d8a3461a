#include "actors/cache_accounts.hpp"

#include <algorithm>
#include <string>
#include <utility>

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
      ledger_(chosen.ledger),
      line_(chosen.line),
      park_(chosen.park) {}

// --- negotiation -----------------------------------------------------------------------------

std::uint32_t cache_accounts::pages_needed(const budget_terms& terms,
                                           std::uint64_t sequence_tokens) const {
  const std::uint64_t final_pages = store_.pages_for(sequence_tokens);
  if (terms.num_sequences <= 1) return static_cast<std::uint32_t>(final_pages);
  const std::uint64_t shared = terms.shared_tokens / store_.page_tokens();
  const std::uint64_t all = shared + terms.num_sequences * (final_pages - shared);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(all, UINT32_MAX));
}

// Pages that could be promised now.
std::uint64_t cache_accounts::room() const {
  const std::uint64_t all = std::uint64_t{store_.free_pages()} + index_.evictable_pages();
  return all - std::min(all, ledger_.promised());
}

// Whether the batch has a place for one more; those whose readers are slow take none.
bool cache_accounts::has_place(const account& asked) const {
  const std::size_t more = std::max(asked.terms.num_sequences, 1u);
  if (members_.size() + more <= options_.max_running) return true;
  std::size_t running = 0;
  for (const auto& [sequence, about] : members_)
    if (!accounts_.at(about.ticket).held) ++running;
  return running == 0 || running + more <= options_.max_running;
}

// Among requests of one user and priority those whose prompt is cached come first: that counts as a
// bit less than one step of priority.
void cache_accounts::enter_line(ticket_id ticket, account& asked) {
  const budget_terms& terms = asked.terms;
  const std::uint32_t needed = asked.copy ? std::max(asked.final_pages, asked.copy->pages)
                                          : pages_needed(terms, terms.sequence_tokens);
  fair_queue::entry waits{
      ticket, terms.user, terms.priority, asked.arrived, 0, needed, terms.resumed || asked.copy};
  if (!waits.resumed) {
    const std::uint64_t cached =
        terms.max_cached_tokens == 0
            ? 0
            : std::uint64_t{index_.match_pages(*terms.prompt, terms.max_cached_tokens)} *
                  store_.page_tokens();
    waits.tokens = std::uint64_t{needed} * store_.page_tokens() - cached;
    waits.arrived -= std::chrono::duration_cast<moment::duration>(
        options_.line.aging *
        (0.99 * static_cast<double>(cached) /
         static_cast<double>(std::max<std::size_t>(terms.prompt->size(), 1))));
  }
  line_.enqueue(std::move(waits));
}

budget_answer cache_accounts::negotiate(budget_terms terms, moment now) {
  last_activity_ = now;
  const std::uint64_t final_tokens = std::max(terms.final_tokens, terms.sequence_tokens);
  if (const std::uint32_t most = pages_needed(terms, final_tokens); most > store_.num_pages()) {
    ++counters_.refusals;
    return refusal{
        terms.num_sequences <= 1 ? final_tokens : std::uint64_t{most} * store_.page_tokens(),
        std::uint64_t{store_.num_pages()} * store_.page_tokens()};
  }
  if (terms.resumed) ++counters_.recomputes;
  const ticket_id ticket{++last_ticket_};
  account& asked = accounts_[ticket];
  asked.final_pages = store_.pages_for(terms.sequence_tokens);
  asked.unforked = std::max(terms.num_sequences, 1u) - 1;
  asked.arrived = terms.arrived.value_or(now);
  asked.counts_from = line_.counts_from(asked.arrived, terms.priority);
  asked.waits_since = now;
  if (options_.prefix_cache && terms.keep_prefix)
    asked.hashes =
        prefix_watch::page_hashes(*terms.prompt, store_.page_tokens(), terms.prompt->size());
  if (!options_.prefix_cache) terms.max_cached_tokens = 0;
  asked.terms = std::move(terms);

  enter_line(ticket, asked);
  const bool for_prefix = waits_for_prefix(asked, now);
  if (!for_prefix && is_next(ticket))
    if (auto made = try_offer(ticket, asked, now)) return *made;
  ++counters_.counter_offers;
  if (for_prefix) ++counters_.prefix_waits;
  changed_ = true;
  return counter_offer{ticket, line_.position(ticket),
                       ledger_.time_until(line_.pages_until(ticket), now), for_prefix};
}

// Nobody waits for pages before it; who waits for a prefix does not count.
bool cache_accounts::is_next(ticket_id ticket) const {
  if (!growths_.empty()) return false;
  for (const auto& place : line_.line()) {
    if (place.ticket == ticket) return true;
    const account& ahead = accounts_.at(place.ticket);
    if (ahead.waits_for == 0 || !watch_.pending(ahead.waits_for)) return false;
  }
  return false;
}

bool cache_accounts::waits_for_prefix(account& asked, moment now) {
  if (now - asked.waits_since > prefix_patience) return false;
  if (asked.waits_for != 0 && watch_.pending(asked.waits_for)) return true;
  asked.waits_for = 0;
  const std::uint64_t cacheable = std::min<std::uint64_t>(
      asked.terms.max_cached_tokens / store_.page_tokens(), asked.hashes.size());
  if (cacheable == 0) return false;
  const std::uint32_t known =
      index_.match_pages(*asked.terms.prompt, asked.terms.max_cached_tokens);
  if (known >= cacheable || !watch_.pending(asked.hashes[known])) return false;
  asked.waits_for = asked.hashes[known];
  return true;
}

// How many pages of `needed` a first budget may have when that many are not there; 0: too few to
// begin with. A little is left to those who have started.
std::uint32_t cache_accounts::affordable_pages(const account& asked, std::uint32_t needed,
                                               std::uint32_t cached) const {
  const budget_terms& terms = asked.terms;
  if (fits(needed - cached)) return needed;
  if (terms.least_tokens == 0 || terms.num_sequences > 1 || terms.resumed) return 0;
  const std::uint64_t kept = members_.size() / 8;
  const std::uint64_t pages = cached + room() - std::min(room(), kept);
  return pages >= store_.pages_for(terms.least_tokens)
             ? static_cast<std::uint32_t>(std::min<std::uint64_t>(pages, needed))
             : 0;
}

std::optional<offer> cache_accounts::try_offer(ticket_id ticket, account& asked, moment now) {
  const budget_terms& terms = asked.terms;
  if (!has_place(asked)) return std::nullopt;
  const std::uint32_t needed = pages_needed(terms, terms.sequence_tokens);
  std::vector<page_id> prefix;
  if (terms.max_cached_tokens > 0) {
    const std::uint32_t known = index_.match_pages(*terms.prompt, terms.max_cached_tokens);
    if (affordable_pages(asked, needed, known) == 0) return std::nullopt;
    prefix = index_.lookup(*terms.prompt, terms.max_cached_tokens);
  }
  // Taking the prefix first makes its pages count as used, no longer as evictable.
  const auto sequence = store_.allocate_shared(prefix, 0);
  QUIRE_CHECK(sequence.has_value(), "a sequence without own pages could not be made");
  const auto cached_pages = static_cast<std::uint32_t>(prefix.size());
  const std::uint32_t pages = affordable_pages(asked, needed, cached_pages);
  if (pages == 0) {
    store_.free(*sequence);
    return std::nullopt;
  }
  const std::uint32_t cached_tokens = cached_pages * store_.page_tokens();
  line_.serve(ticket);
  ledger_.offer(ticket, now);
  offer made{ticket, *sequence, cached_tokens, pages - cached_pages, terms.sequence_tokens};
  if (pages < needed) {
    ++counters_.smaller_offers;
    asked.final_pages = pages;
    made.sequence_tokens = std::uint64_t{pages} * store_.page_tokens();
    charge(asked, -static_cast<double>(needed - pages));
  }
  asked.members = {*sequence};
  members_[*sequence] = member{ticket, *terms.prompt, cached_tokens, cached_pages};
  settle(ticket, asked);
  if (terms.keep_prefix) watch_.begin(*sequence, asked.hashes, cached_pages);
  ++counters_.offers;
  counters_.cached_tokens += cached_tokens;
  return made;
}

void cache_accounts::charge(const account& of, double pages) {
  line_.charge(of.terms.user, pages * store_.page_tokens());
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
  account& held = found->second;
  std::uint32_t pages = ledger_.promised(ticket);
  if (pages > 0) charge(held, -static_cast<double>(pages));
  for (const sequence_id sequence : held.members) {
    pages += static_cast<std::uint32_t>(store_.table(sequence)->size());
    watch_.end(sequence);
    store_.free(sequence);
    members_.erase(sequence);
  }
  end_growth(ticket, held);
  drop_copy(held);
  std::erase(asked_, ticket);
  std::erase(leaving_, ticket);
  std::erase(restoring_, ticket);
  accounts_.erase(found);
  ledger_.drop(ticket);
  line_.leave(ticket);
  ledger_.returned(pages, now);
  changed_ = true;
}

std::vector<cache_effect> cache_accounts::serve(moment now) {
  now_ = now;
  for (const ticket_id late : ledger_.expired(now)) {
    ++counters_.expired_offers;
    drop(late, now);
  }
  take_silent(now);
  std::vector<cache_effect> effects = std::exchange(effects_, {});
  // Restored requests may have gone meanwhile.
  std::erase_if(effects, [this](const cache_effect& effect) {
    const auto* made = std::get_if<offer>(&effect);
    return made != nullptr && !accounts_.contains(made->ticket);
  });
  for (const cache_effect& effect : effects)
    if (const auto* made = std::get_if<offer>(&effect)) ledger_.offer(made->ticket, now);
  if (!changed_) return effects;
  changed_ = false;
  if (serve_growths(now, effects)) serve_line(now, effects);
  return effects;
}

void cache_accounts::serve_line(moment now, std::vector<cache_effect>& effects) {
  for (auto at = line_.line().begin(); at != line_.line().end();) {
    const ticket_id ticket = at->ticket;
    account& asked = accounts_.at(ticket);
    if (!asked.copy && waits_for_prefix(asked, now)) {
      ++at;
      continue;
    }
    bool served = false;
    if (asked.copy) {
      served = try_restore(ticket, asked);
    } else if (const auto next = try_offer(ticket, asked, now)) {
      effects.push_back(*next);
      served = true;
    }
    if (!served) return make_way(ticket, asked, now, effects);
    at = line_.line().begin();  // places change when somebody is served
  }
}

// Whoever is next waits for memory or a place, and all behind wait with it.
void cache_accounts::make_way(ticket_id ticket, const account& asked, moment now,
                              std::vector<cache_effect>& effects) {
  const std::uint64_t wanted = asked.copy ? std::max(asked.final_pages, asked.copy->pages)
                                          : pages_needed(asked.terms, asked.terms.sequence_tokens);
  reclaim({ticket, asked.terms.priority, asked.counts_from, false},
          std::max<std::uint64_t>(wanted - std::min(wanted, room()), 1), now, effects);
}

std::optional<moment> cache_accounts::next_deadline() const {
  std::optional<moment> next = ledger_.next_expiry();
  const auto earlier = [&next](moment at) {
    if (!next || at < *next) next = at;
  };
  for (const ticket_id asked : asked_) earlier(*accounts_.at(asked).asked_until);
  if (!growths_.empty()) earlier(growths_.begin()->second.since + growth_patience);
  return next;
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
  std::uint64_t parked = 0;
  for (const auto& [ticket, held] : accounts_)
    if (held.copy) parked += held.copy->pages;
  if (parked != park_.memory_pages() + park_.disk_pages())
    return fail(errc::internal, std::to_string(parked) + " pages are parked, " +
                                    std::to_string(park_.memory_pages() + park_.disk_pages()) +
                                    " are counted");
  return {};
}

}  // namespace quire
