// The part of cache_accounts that finds pages when they are short: growing at the cost of those
// that count from later, asking to yield, parking and bringing back.
#include <algorithm>
#include <utility>

#include "actors/cache_accounts.hpp"
#include "core/check.hpp"

namespace quire {

namespace {
/// Who refuses to yield because it will be done soon is believed for so long.
constexpr std::chrono::seconds spared{1};
}  // namespace

// --- growing ---------------------------------------------------------------------------------

cache_accounts::growth cache_accounts::extend(sequence_id sequence, std::uint64_t sequence_tokens,
                                              moment now) {
  const auto found = members_.find(sequence);
  if (found == members_.end()) return growth::denied;
  const ticket_id ticket = found->second.ticket;
  account& held = accounts_.at(ticket);
  const std::uint32_t wanted = store_.pages_for(sequence_tokens);
  if (wanted <= held.final_pages) return growth::granted;
  if (held.terms.num_sequences > 1 || held.leaving) {
    ++counters_.denied_extensions;
    return growth::denied;
  }
  if (growths_.empty() && fits(wanted - held.final_pages)) {
    grow_to(ticket, held, wanted);
    return growth::granted;
  }
  growths_.insert_or_assign(growth_key{held.counts_from, ticket},
                            growth_wait{sequence, wanted, now});
  changed_ = true;
  return growth::waits;
}

void cache_accounts::grow_to(ticket_id ticket, account& held, std::uint32_t final_pages) {
  ++counters_.extensions;
  charge(held, static_cast<double>(final_pages - held.final_pages));
  held.final_pages = final_pages;
  settle(ticket, held);
}

void cache_accounts::end_growth(ticket_id ticket, const account& held) {
  growths_.erase(growth_key{held.counts_from, ticket});
}

// Returns whether all could grow or were told that they cannot.
bool cache_accounts::serve_growths(moment now, std::vector<cache_effect>& effects) {
  while (!growths_.empty()) {
    const auto [key, waits] = *growths_.begin();
    account& held = accounts_.at(key.ticket);
    const std::uint32_t more = waits.final_pages - held.final_pages;
    const bool granted = fits(more);
    if (granted) {
      grow_to(key.ticket, held, waits.final_pages);
    } else {
      const bool patient = now < waits.since + growth_patience;
      if (patient && reclaim({key.ticket, held.terms.priority, held.counts_from, true},
                             more - room(), now, effects))
        return false;
      ++counters_.denied_extensions;
    }
    growths_.erase(growths_.begin());
    effects.push_back(growth_answer{waits.sequence, granted});
  }
  return true;
}

// --- asking to yield -------------------------------------------------------------------------

// What comes back when it goes: pages that others hold too are counted, so that it may be less, and
// then more are asked.
std::uint32_t cache_accounts::held_pages(ticket_id ticket, const account& of) const {
  std::uint32_t pages = ledger_.promised(ticket);
  for (const sequence_id sequence : of.members)
    pages += static_cast<std::uint32_t>(store_.table(sequence)->size());
  return pages;
}

// Asks as many as are needed to yield; returns whether pages are on their way.
bool cache_accounts::reclaim(const reclaim_need& need, std::uint64_t pages, moment now,
                             std::vector<cache_effect>& effects) {
  std::uint64_t coming = 0;
  std::vector<reclaim_candidate> candidates;
  for (const auto& [sequence, about] : members_) {
    const account& of = accounts_.at(about.ticket);
    if (of.terms.num_sequences > 1 || of.restoring || ledger_.is_offered(about.ticket)) continue;
    const std::uint32_t holds = held_pages(about.ticket, of);
    const bool is_spared = of.spared_until && now < *of.spared_until;
    if (of.leaving || of.asked_until || is_spared)
      coming += holds;
    else
      candidates.push_back({about.ticket, of.terms.priority, of.counts_from, of.held, holds});
  }
  if (coming >= pages) return true;
  for (const ticket_id chosen : choose_victims(need, std::move(candidates), pages - coming)) {
    account& of = accounts_.at(chosen);
    of.asked_until = now + options_.reclaim_timeout;
    asked_.push_back(chosen);
    coming += held_pages(chosen, of);
    ++counters_.reclaims;
    effects.push_back(
        yield_ask{chosen, of.members.front(), held_pages(chosen, of), *of.asked_until});
  }
  return coming > 0;
}

void cache_accounts::yielded(sequence_id sequence, yield_choice how, std::uint64_t resume_tokens,
                             moment now) {
  const auto found = members_.find(sequence);
  if (found == members_.end()) return;
  const ticket_id ticket = found->second.ticket;
  account& held = accounts_.at(ticket);
  now_ = now;
  std::erase(asked_, ticket);
  held.asked_until.reset();
  changed_ = true;
  if (how == yield_choice::refuse) {
    ++counters_.refused_yields;
    held.spared_until = now + spared;
  }
  if (how != yield_choice::park || held.leaving || held.terms.num_sequences > 1) return;
  end_growth(ticket, held);
  held.resume_pages =
      std::max(store_.pages_for(resume_tokens), store_.pages_for(found->second.stored));
  held.leaving = true;
  leaving_.push_back(ticket);
}

// Silence is recompute; whoever waits to grow stops waiting in vain.
void cache_accounts::take_silent(moment now) {
  if (!growths_.empty() && now >= growths_.begin()->second.since + growth_patience) changed_ = true;
  const auto asked = asked_;
  for (const ticket_id ticket : asked) {
    if (now < *accounts_.at(ticket).asked_until) continue;
    ++counters_.silent_yields;
    take_back(ticket, now);
  }
}

void cache_accounts::take_back(ticket_id ticket, moment now) {
  const account& of = accounts_.at(ticket);
  taken_back lost{ticket, std::nullopt};
  if (!of.members.empty() && !of.restoring) lost.sequence = of.members.front();
  drop(ticket, now);
  effects_.push_back(lost);
}

// --- parking ---------------------------------------------------------------------------------

void cache_accounts::hold(ticket_id ticket, bool held) {
  const auto found = accounts_.find(ticket);
  if (found == accounts_.end() || found->second.held == held) return;
  account& of = found->second;
  of.held = held;
  changed_ = true;
  if (!of.copy || of.restoring) return;
  if (held)
    line_.leave(ticket);
  else
    enter_line(ticket, of);
}

void cache_accounts::drop_copy(account& of) {
  if (!of.copy) return;
  park_.give_back(of.copy->where, of.copy->pages);
  drops_.push_back(of.copy->id);
  of.copy.reset();
}

// Those who chose to park go with this lease: the step copies their bytes out before anything else,
// so their pages are free for it already.
void cache_accounts::park_leaving(step_pages& pages) {
  for (const ticket_id ticket : std::exchange(leaving_, {})) {
    account& of = accounts_.at(ticket);
    of.leaving = false;
    const sequence_id sequence = of.members.front();
    member& left = members_.at(sequence);
    const std::uint32_t count = store_.pages_for(left.stored);
    const auto where = count == 0 ? std::nullopt : park_.take(count);
    if (!where) {
      if (count > 0) ++counters_.park_overflows;
      take_back(ticket, now_);
      continue;
    }
    const auto table = *store_.table(sequence);
    const park_id id{++last_park_};
    pages.exchange.parks.push_back({id, *where, {table.begin(), table.begin() + count}});
    pages.parked.push_back({ticket, sequence});
    live_->parking.push_back(ticket);
    of.copy = parked_copy{id, *where, count, left.stored, std::move(left.tokens)};
    watch_.end(sequence);
    store_.free(sequence);
    members_.erase(sequence);
    of.members.clear();
    of.final_pages = of.resume_pages;
    ledger_.promise(ticket, 0);
    ++counters_.parks;
    if (*where == park_place::disk) ++counters_.parks_to_disk;
    if (!of.held) enter_line(ticket, of);
    changed_ = true;
  }
}

// Takes pages for a parked request; the next lease fills them.
bool cache_accounts::try_restore(ticket_id ticket, account& asked) {
  const parked_copy& copy = *asked.copy;
  if (!has_place(asked)) return false;
  const std::uint32_t needed = std::max(asked.final_pages, copy.pages);
  const bool shares = options_.prefix_cache && asked.terms.keep_prefix;
  if (!fits(needed - (shares ? index_.match_pages(copy.tokens, copy.stored) : 0))) return false;
  std::vector<page_id> prefix;
  if (shares) prefix = index_.lookup(copy.tokens, copy.stored);
  const auto sequence = store_.allocate_shared(prefix, 0);
  QUIRE_CHECK(sequence.has_value(), "a sequence without own pages could not be made");
  const auto known = static_cast<std::uint32_t>(prefix.size());
  if (!fits(needed - known) || !make_room(copy.pages - known)) {
    store_.free(*sequence);
    return false;
  }
  std::vector<page_copy> none;
  QUIRE_CHECK(store_.extend(*sequence, copy.stored - known * store_.page_tokens()).has_value() &&
                  store_.update_tokens(*sequence, copy.stored, none).has_value() && none.empty(),
              "pages that were there could not be taken");
  line_.serve(ticket);
  asked.final_pages = needed;
  asked.members = {*sequence};
  asked.restoring = true;
  members_[*sequence] = member{ticket, copy.tokens, copy.stored, known};
  settle(ticket, asked);
  restoring_.push_back(ticket);
  return true;
}

void cache_accounts::restore_coming(step_pages& pages) {
  for (const ticket_id ticket : std::exchange(restoring_, {})) {
    const account& of = accounts_.at(ticket);
    const sequence_id sequence = of.members.front();
    const std::uint32_t known = members_.at(sequence).indexed_pages;
    const auto table = *store_.table(sequence);
    pages.exchange.unparks.push_back({of.copy->id, known, {table.begin() + known, table.end()}});
    live_->restoring.push_back(ticket);
  }
}

void cache_accounts::end_exchange(const live_lease& ended, const step_end& how,
                                  std::span<const sequence_id> lost) {
  const auto is_in = [](const auto& all, const auto& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  const auto failed = [&](const account& of) {
    return of.copy && (is_in(how.not_exchanged, of.copy->id) ||
                       (!of.members.empty() && is_in(lost, of.members.front())));
  };
  std::vector<ticket_id> all = ended.parking;
  all.insert(all.end(), ended.restoring.begin(), ended.restoring.end());
  for (const ticket_id ticket : all) {
    const auto found = accounts_.find(ticket);
    if (found == accounts_.end() || !failed(found->second)) continue;
    ++counters_.failed_parks;
    take_back(ticket, now_);
  }
  for (const ticket_id ticket : ended.restoring) {
    const auto found = accounts_.find(ticket);
    if (found == accounts_.end()) continue;
    account& of = found->second;
    of.restoring = false;
    drop_copy(of);
    ++counters_.resumes;
    const sequence_id sequence = of.members.front();
    effects_.push_back(offer{ticket, sequence, members_.at(sequence).stored,
                             ledger_.promised(ticket),
                             std::uint64_t{of.final_pages} * store_.page_tokens()});
  }
}

}  // namespace quire
