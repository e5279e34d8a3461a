// Figures of the page store: counts, holes, waste, and whether they call for defragmenting.
#include <algorithm>

#include "memory/page_store.hpp"

namespace quire {

std::uint32_t page_store::holes() const noexcept {
  // Past the last used page lies the tail, which is no hole; a run before the first is none either.
  const std::uint32_t last_used = free_.previous_absent(num_pages());
  if (last_used == page_set::none) return 0;
  const std::uint32_t leading = free_.contains(0) ? 1 : 0;
  return free_.runs_before(last_used) - leading;
}

store_stats page_store::stats() const {
  store_stats s = counts_;
  s.active_sequences = slot_by_id_.size();
  s.free_pages = free_.size();
  s.used_pages = pages_.size() - free_.size();
  return s;
}

fragmentation_stats page_store::fragmentation() const {
  fragmentation_stats f;
  for (std::uint32_t begin = free_.next(0); begin != page_set::none;) {
    const std::uint32_t end = free_.next_absent(begin);
    f.largest_free_region = std::max<std::uint64_t>(f.largest_free_region, end - begin);
    begin = free_.next(end);
  }
  const std::uint64_t used = pages_.size() - free_.size();
  if (used == 0) return f;
  f.holes = holes();
  f.wasted_capacity = used * page_tokens_ - stored_tokens_;
  f.fragmentation_ratio = std::min(1.0, static_cast<double>(f.holes) / static_cast<double>(used));
  f.avg_tokens_per_page = static_cast<double>(stored_tokens_) / static_cast<double>(used);
  return f;
}

double page_store::utilization_percent() const noexcept {
  if (pages_.empty()) return 0.0;
  return 100.0 * static_cast<double>(pages_.size() - free_.size()) /
         static_cast<double>(pages_.size());
}

bool page_store::should_defragment(double threshold) const {
  const std::uint64_t used = pages_.size() - free_.size();
  if (used == 0) return false;
  const std::uint32_t num_holes = holes();
  const double ratio = std::min(1.0, static_cast<double>(num_holes) / static_cast<double>(used));
  if (ratio > threshold) return true;
  const std::uint64_t room = used * page_tokens_;
  // Wasted above a quarter and free below a tenth, in integers: the inequalities are strict.
  if ((room - stored_tokens_) * 4 > room && num_holes > 2) return true;
  return std::uint64_t{free_.size()} * 10 < pages_.size() && num_holes > 0;
}

}  // namespace quire
