// Defragmentation: moves of pages by rewriting every table that holds them. All moves go to free
// pages, so a list of copies applied in order never overwrites what a later one reads.
#include <algorithm>
#include <vector>

#include "core/check.hpp"
#include "memory/page_store.hpp"

namespace quire {
namespace {

/// Holders of a page that are asked for a neighbour; more make a call slow and rarely know better.
constexpr int holders_to_ask = 4;

/// Longest run of adjacent pages that is moved as one; bounds the search for its start.
constexpr std::uint32_t longest_run = 64;

}  // namespace

std::vector<std::pair<page_id, page_id>> page_store::take_moves() {
  return std::exchange(moves_, {});
}

void page_store::move_page(page_id from, page_id to, std::vector<page_copy>& copies) {
  QUIRE_CHECK(at(from).leases == 0 && at(from).ref_count > 0, "a page was moved that must stay");
  QUIRE_CHECK(free_.contains(to_index(to)), "a page was moved onto a used one");
  free_.erase(to_index(to));
  at(to) = std::exchange(at(from), page_state{});
  free_.insert(to_index(from));
  for (holder h = at(to).first; !h.none(); h = links_of(h).next) slots_[h.slot].table[h.index] = to;
  moves_.emplace_back(from, to);
  ++counts_.pages_moved;
  if (at(to).tokens > 0) copies.push_back({from, to, at(to).tokens});
}

// --- the whole pool --------------------------------------------------------------------------

std::uint32_t page_store::highest_movable(std::uint32_t before) const noexcept {
  std::uint32_t page = free_.previous_absent(before);
  while (page != page_set::none && pages_[page].leases > 0) page = free_.previous_absent(page);
  return page;
}

// The page past `hole` that belongs beside one of the hole's neighbours, or none. A page whose run
// does not fit in the `room` there would only leave another neighbour behind.
page_id page_store::neighbour_for(std::uint32_t hole, std::uint32_t room) const noexcept {
  const auto movable = [this, hole](const sequence_state& s, std::uint32_t index) {
    return index < s.table.size() && to_index(s.table[index]) > hole &&
           at(s.table[index]).leases == 0;
  };
  int asked = 0;
  if (hole > 0)
    for (holder h = pages_[hole - 1].first; !h.none() && asked < holders_to_ask; ++asked) {
      const sequence_state& s = slots_[h.slot];
      if (movable(s, h.index + 1) && run_length(s, h.index + 1, room + 1) <= room)
        return s.table[h.index + 1];
      h = s.entries[h.index].next;
    }
  asked = 0;
  if (room == 1 && hole + 1 < pages_.size())
    for (holder h = pages_[hole + 1].first; !h.none() && asked < holders_to_ask; ++asked) {
      const sequence_state& s = slots_[h.slot];
      // Below index 0 the wrapped index lies past every table.
      if (movable(s, h.index - 1) && run_begin(s, h.index - 1) == h.index - 1)
        return s.table[h.index - 1];
      h = s.entries[h.index].next;
    }
  return page_id{page_set::none};
}

// How many entries from `index` on lie on adjacent pages, at most `longest`.
std::uint32_t page_store::run_length(const sequence_state& s, std::uint32_t index,
                                     std::uint32_t longest) const noexcept {
  std::uint32_t length = 1;
  while (length < longest && index + length < s.table.size() &&
         to_index(s.table[index + length]) == to_index(s.table[index]) + length)
    ++length;
  return length;
}

// The first entry of the run that ends with `index`; looks back no further than longest_run.
std::uint32_t page_store::run_begin(const sequence_state& s, std::uint32_t index) const noexcept {
  std::uint32_t begin = index;
  while (begin > 0 && index - begin + 1 < longest_run &&
         to_index(s.table[begin - 1]) + 1 == to_index(s.table[begin]))
    --begin;
  return begin;
}

// Which entries should fill `room` pages from `hole` on so that page `last` is among them: the end
// of its run, and the runs before it in the table as far as they fit whole. Returns the first
// entry.
page_store::holder page_store::chain_to(std::uint32_t last, std::uint32_t hole,
                                        std::uint32_t room) const noexcept {
  const holder end = pages_[last].first;
  if (end.none()) return end;
  const sequence_state& s = slots_[end.slot];
  const auto may_move = [&](std::uint32_t index) {
    return at(s.table[index]).leases == 0 && to_index(s.table[index]) > hole;
  };
  const auto first_that_may = [&](std::uint32_t begin, std::uint32_t last_index) {
    std::uint32_t first = last_index;
    while (first > begin && may_move(first - 1)) --first;
    return first;
  };
  std::uint32_t begin = run_begin(s, end.index);
  std::uint32_t first = first_that_may(begin, end.index);
  if (end.index - first + 1 > room) return {end.slot, end.index + 1 - room};
  while (first == begin && first > 0 && end.index - first + 1 < longest_run &&
         may_move(first - 1)) {
    begin = run_begin(s, first - 1);
    if (end.index - begin + 1 > room || first_that_may(begin, first - 1) != begin) break;
    first = begin;
  }
  return {end.slot, first};
}

// The first of at most `room` pages up to `last` that only references from outside hold.
std::uint32_t page_store::outside_run(std::uint32_t last, std::uint32_t room) const noexcept {
  const auto alone = [this](std::uint32_t i) {
    return pages_[i].ref_count > 0 && pages_[i].first.none() && pages_[i].leases == 0;
  };
  std::uint32_t begin = last;
  while (last - begin + 1 < std::min(room, longest_run) && begin > 0 && alone(begin - 1)) --begin;
  return begin;
}

std::uint32_t page_store::defragment(std::uint32_t max_moves, std::vector<page_copy>& copies) {
  std::uint32_t moved = 0;
  // Every move takes a page from above the lowest free page into it, so this ends by itself.
  while (moved < max_moves) {
    const std::uint32_t hole = free_.next(0);
    if (hole == page_set::none) break;
    const std::uint32_t last = highest_movable(num_pages());
    if (last == page_set::none || last < hole) break;
    const std::uint32_t room = free_.next_absent(hole) - hole;
    const page_id neighbour = neighbour_for(hole, room);
    const holder first = chain_to(last, hole, room);
    if (to_index(neighbour) != page_set::none) {
      move_page(neighbour, page_id{hole}, copies);
      ++moved;
      continue;
    }
    if (first.none()) {  // in no table: keep such pages in the order in which they lie
      const std::uint32_t begin = outside_run(last, room);
      for (std::uint32_t i = 0; begin + i <= last && moved < max_moves; ++i, ++moved)
        move_page(page_id{begin + i}, page_id{hole + i}, copies);
      continue;
    }
    const std::vector<page_id>& table = slots_[first.slot].table;
    for (std::uint32_t i = first.index, to = hole; moved < max_moves; ++i, ++to, ++moved) {
      const page_id from = table[i];
      move_page(from, page_id{to}, copies);
      if (to_index(from) == last) {
        ++moved;
        break;
      }
    }
  }
  if (moved > 0) ++counts_.defrag_operations;
  return moved;
}

// --- one table -------------------------------------------------------------------------------

std::uint32_t page_store::compact(sequence_id id, std::vector<page_copy>& copies) {
  sequence_state* s = find(id);
  if (s == nullptr || s->table.size() < 2) return 0;
  const auto adjacent = [](page_id a, page_id b) { return to_index(b) != to_index(a) + 1; };
  if (std::adjacent_find(s->table.begin(), s->table.end(), adjacent) == s->table.end()) return 0;
  const std::uint32_t start = best_start(*s);
  if (start != page_set::none) return gather(*s, start, copies);
  const std::uint32_t sorted = sort_table(*s, copies);
  return sorted + close_gaps(*s, copies);
}

// Where the whole table fits adjacent, counting its own pages as free, with the fewest moves; or
// none.
std::uint32_t page_store::best_start(const sequence_state& s) const {
  const auto length = static_cast<std::uint32_t>(s.table.size());
  page_set room = free_;
  bool any_leased = false;
  std::uint32_t leased_start = page_set::none;
  std::vector<std::uint32_t> starts;  // under which each page would already be in its place
  for (std::uint32_t i = 0; i < length; ++i) {
    const std::uint32_t page = to_index(s.table[i]);
    if (!room.contains(page)) room.insert(page);
    if (page >= i) starts.push_back(page - i);
    if (at(s.table[i]).leases == 0) continue;
    if (page < i || (any_leased && leased_start != page - i)) return page_set::none;
    any_leased = true;
    leased_start = page - i;
  }
  const auto fits = [&](std::uint32_t start) {
    return room.contains(start) && room.next_absent(start) - start >= length;
  };
  if (any_leased) return fits(leased_start) ? leased_start : page_set::none;
  std::sort(starts.begin(), starts.end());
  std::uint32_t best = page_set::none;
  std::size_t most = 0;
  for (std::size_t i = 0; i < starts.size();) {
    std::size_t end = i;
    while (end < starts.size() && starts[end] == starts[i]) ++end;
    if (end - i > most && fits(starts[i])) {
      most = end - i;
      best = starts[i];
    }
    i = end;
  }
  if (best != page_set::none) return best;
  for (std::uint32_t begin = room.next(0); begin != page_set::none;) {
    const std::uint32_t end = room.next_absent(begin);
    if (end - begin >= length) return begin;
    begin = room.next(end);
  }
  return page_set::none;
}

// Moves entry `index` to page `to`, then whatever entry wants the page that this left, and so on.
// `wanted_by` says which entry wants a page, or none.
template <class WantedBy>
std::uint32_t page_store::follow(sequence_state& s, std::uint32_t index, std::uint32_t to,
                                 const WantedBy& wanted_by, std::vector<page_copy>& copies) {
  std::uint32_t moved = 0;
  while (index != page_set::none) {
    const std::uint32_t left = to_index(s.table[index]);
    move_page(s.table[index], page_id{to}, copies);
    ++moved;
    to = left;
    index = wanted_by(left);
  }
  return moved;
}

// Puts entry i on page target(i), which is free or holds another entry of the table. Entries that
// wait for each other in a circle are opened through one free page, if there is one.
template <class Target, class WantedBy>
std::uint32_t page_store::permute(sequence_state& s, const Target& target,
                                  const WantedBy& wanted_by, std::vector<page_copy>& copies) {
  std::uint32_t moved = 0;
  for (std::uint32_t i = 0; i < s.table.size(); ++i)
    if (free_.contains(target(i))) moved += follow(s, i, target(i), wanted_by, copies);
  for (std::uint32_t i = 0; i < s.table.size(); ++i) {
    if (to_index(s.table[i]) == target(i)) continue;
    const std::uint32_t spare = free_.next(0);
    if (spare == page_set::none) break;
    moved += follow(s, i, spare, wanted_by, copies);
  }
  return moved;
}

std::uint32_t page_store::gather(sequence_state& s, std::uint32_t start,
                                 std::vector<page_copy>& copies) {
  const auto length = static_cast<std::uint32_t>(s.table.size());
  return permute(
      s, [start](std::uint32_t i) { return start + i; },
      [start, length](std::uint32_t page) {
        return page >= start && page - start < length ? page - start : page_set::none;
      },
      copies);
}

std::uint32_t page_store::sort_table(sequence_state& s, std::vector<page_copy>& copies) {
  std::vector<std::uint32_t> pages;
  for (const page_id id : s.table) {
    if (at(id).leases > 0) return 0;  // ordered around fixed pages it could be torn further
    pages.push_back(to_index(id));
  }
  if (std::is_sorted(pages.begin(), pages.end())) return 0;
  std::sort(pages.begin(), pages.end());
  return permute(
      s, [&pages](std::uint32_t i) { return pages[i]; },
      [&pages](std::uint32_t page) {
        const auto found = std::lower_bound(pages.begin(), pages.end(), page);
        if (found == pages.end() || *found != page) return page_set::none;
        return static_cast<std::uint32_t>(found - pages.begin());
      },
      copies);
}

// Moves runs of the table behind the run before them where the pages there are free.
std::uint32_t page_store::close_gaps(sequence_state& s, std::vector<page_copy>& copies) {
  std::uint32_t moved = 0;
  for (std::size_t i = 1; i < s.table.size(); ++i) {
    const std::uint32_t target = to_index(s.table[i - 1]) + 1;
    const std::uint32_t page = to_index(s.table[i]);
    if (page == target || !free_.contains(target)) continue;
    std::size_t end = i;
    while (end < s.table.size() && at(s.table[end]).leases == 0 &&
           to_index(s.table[end]) == page + (end - i))
      ++end;
    if (end == i) continue;  // leased
    const std::uint32_t free_end = free_.next_absent(target);
    // A run that touches the gap slides into it; another must fit, or it would only be torn.
    if (free_end - target < end - i && free_end != page) continue;
    for (std::uint32_t to = target; i < end; ++i, ++to, ++moved)
      move_page(s.table[i], page_id{to}, copies);
    --i;
  }
  return moved;
}

}  // namespace quire
