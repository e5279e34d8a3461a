// The part of cache_accounts that runs once per step: pages for what the step writes, tidying up,
// and what the step leaves behind.
#include <algorithm>
#include <utility>

#include "actors/cache_accounts.hpp"
#include "core/check.hpp"

namespace quire {
namespace {

/// Prefix pages dropped for disuse between two steps; each is a few steps down a tree.
constexpr std::uint32_t evictions_at_once = 512;

/// With nothing to compute, so many times the pages of a busy step are moved before looking up.
constexpr std::uint32_t idle_moves = 8;

/// The pool's tail is given back in this many portions, so that no step waits for all of it.
constexpr std::uint32_t trims_per_pool = 8;

}  // namespace

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
  // Who computes again what it had has named its tokens already.
  if (grown.tokens.size() == grown.stored)
    grown.tokens.insert(grown.tokens.end(), item.generated.begin(), item.generated.end());
  grown.stored = stored;
  QUIRE_CHECK(grown.tokens.size() >= stored, "a lease stores tokens that nobody named");
  counters_.page_copies += copies.size() - copies_before;
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

step_pages cache_accounts::lease(std::uint64_t step, std::span<const lease_item> items, bool idle,
                                 moment now) {
  QUIRE_CHECK(!live_, "a step was leased while another is live");
  live_.emplace();
  live_->step = step;
  step_pages pages;
  pages.step = step;
  pages.exchange.drops = std::exchange(drops_, {});
  park_leaving(pages);
  restore_coming(pages);
  touched_pages_ = std::max(touched_pages_, store_.tail_begin());  // what came back may move on
  // A prompt being computed is a request that is still coming.
  if (std::any_of(items.begin(), items.end(), [](const auto& item) { return item.num_tokens > 1; }))
    last_activity_ = now;
  const std::uint32_t moved = tidy(idle, now, pages);
  pages.grants.reserve(items.size());
  live_->items.reserve(items.size());
  for (const lease_item& item : items) pages.grants.push_back(lease_one(item, pages.copies));
  for (const page_copy& copy : pages.copies) live_->targets.push_back(copy.to);
  touched_pages_ = std::max(touched_pages_, store_.tail_begin());
  if (idle && touched_pages_ > options_.min_pages)
    pages.tidy_in =
        is_quiet(now)
            ? options_.idle
            : std::chrono::ceil<std::chrono::milliseconds>(last_activity_ + options_.idle - now);
  // First the pages that are still to move; then, while sequences run, not for every page that
  // ends.
  if (is_quiet(now) && moved == 0) give_back(pages);
  return pages;
}

std::uint32_t cache_accounts::tidy(bool idle, moment now, step_pages& pages) {
  const auto& how = options_.defragment;
  bool wanted = idle ? how.idle : store_.should_defragment(how.threshold);
  if (is_quiet(now) && touched_pages_ > options_.min_pages) {
    const std::uint32_t used = store_.num_pages() - store_.free_pages();
    if (used > options_.min_pages)
      index_.evict(std::min(used - options_.min_pages, evictions_at_once));
    wanted = how.idle;
  }
  if (!wanted) return 0;
  const std::uint32_t most =
      idle ? idle_moves * std::max(how.max_moves_per_step, 1u) : how.max_moves_per_step;
  const std::uint32_t moved = store_.defragment(most, pages.copies);
  if (moved > 0) {
    index_.on_moves(store_.take_moves());
    live_->moved = true;
  }
  return moved;
}

// The free tail beyond the minimum goes back to the system, from its end on.
void cache_accounts::give_back(step_pages& pages) {
  const std::uint32_t keep = std::max(options_.min_pages, store_.tail_begin());
  if (touched_pages_ <= keep) return;
  const std::uint32_t portion = std::max(store_.num_pages() / trims_per_pool, 1u);
  touched_pages_ = std::max(keep, touched_pages_ - std::min(portion, touched_pages_));
  pages.trim_from_page = touched_pages_;
}

std::vector<sequence_id> cache_accounts::end_step(std::uint64_t step, const step_end& how) {
  if (!live_ || live_->step != step) return {};
  const live_lease ended = std::move(*live_);
  live_.reset();
  for (const live_item& item : ended.items) store_.unlease(item.table);
  changed_ = true;
  std::vector<sequence_id> lost;
  if (!how.succeeded) lost = lost_in(ended);
  end_exchange(ended, how, lost);
  if (how.succeeded && options_.prefix_cache)
    for (const live_item& item : ended.items)
      if (std::find(how.not_run.begin(), how.not_run.end(), item.sequence) == how.not_run.end())
        index_full_pages(item);
#ifndef NDEBUG
  const auto sound = check();
  QUIRE_CHECK(sound.has_value(), sound ? "" : sound.error().message);
#endif
  return lost;
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
  const auto twins = index_.insert(std::span(grown.tokens).first(grown.stored),
                                   *store_.table(item.sequence), grown.indexed_pages);
  // Two sequences may have computed one page in the same step: both go on with the one that is
  // known.
  for (const prefix_index::twin& found_twin : twins)
    if (!store_.adopt(item.sequence, found_twin.index, found_twin.known)) break;
  grown.indexed_pages = full;
  watch_.advance(item.sequence, full);
}

}  // namespace quire
