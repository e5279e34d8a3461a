#include "compute/ops/attention_plan.hpp"

#include <algorithm>

#include "compute/attention_kernels.hpp"

namespace quire {
namespace {

std::uint32_t tokens_per_group(const attention_args& args) noexcept {
  const std::uint32_t heads_per_kv = args.num_heads / args.kv.layout->kv_heads;
  return std::clamp(attention_plan::group_rows / heads_per_kv, std::uint32_t{1},
                    attention_plan::group_rows);
}

}  // namespace

void attention_plan::make(const attention_args& args, const attention_plan_options& options) {
  groups_.clear();
  items_.clear();
  split_.clear();
  num_partial_floats_ = 0;
  group_of_.assign(args.sequences.size(), 0);
  // The large items first: small ones fill the gaps at the end.
  add_own(args, options, true);
  const bool share = args.sharing != nullptr && !options.row_independent;
  if (share)
    for (const shared_run& run : args.sharing->runs()) add_shared(args, run);
  add_own(args, options, false);
  list_shared_parts(args.num_heads / args.kv.layout->kv_heads,
                    padded_dim(args.kv.layout->head_dim));
  reset_counters();
}

// Groups of single sequences: those with several tokens, or those with one.
void attention_plan::add_own(const attention_args& args, const attention_plan_options& options,
                             bool prefill) {
  const std::uint32_t heads_per_kv = args.num_heads / args.kv.layout->kv_heads;
  const std::uint32_t usual_block = tokens_per_group(args);
  const bool share = args.sharing != nullptr && !options.row_independent;
  for (std::uint32_t s = 0; s < args.sequences.size(); ++s) {
    const attention_sequence& sequence = args.sequences[s];
    if ((sequence.num_tokens > 1) != prefill) continue;
    if (!prefill) group_of_[s] = groups_.size();
    const std::uint32_t block =
        sequence.first_position < deep_prompt ? usual_block : 2 * usual_block;
    for (std::uint32_t first = 0; first < sequence.num_tokens; first += block)
      for (std::uint32_t head = 0; head < args.kv.layout->kv_heads; ++head) {
        const std::uint32_t position = sequence.first_position + first;
        query_group group{.sequence = s,
                          .first_query = first,
                          .num_queries = std::min(block, sequence.num_tokens - first),
                          .kv_head = head,
                          .blocked = prefill || options.row_independent ||
                                     (options.packed && heads_per_kv > most_lone_rows)};
        group.begin = first_visible(position, args.window);
        group.end = position + group.num_queries;
        if (share && !prefill) group.begin = std::max(group.begin, args.sharing->private_begin(s));
        add_group(args, group,
                  options.row_independent ? invariant_chunk
                  : prefill               ? prefill_chunk
                                          : decode_chunk);
      }
  }
}

// Groups of the members of a run, as many at a time as fill a group.
void attention_plan::add_shared(const attention_args& args, const shared_run& run) {
  const std::span<const std::uint32_t> members = args.sharing->members(run);
  const std::uint32_t block = tokens_per_group(args);
  for (std::uint32_t first = 0; first < members.size(); first += block) {
    query_group group{
        .num_queries = std::min(block, static_cast<std::uint32_t>(members.size()) - first),
        .blocked = true};
    group.members = members.subspan(first, group.num_queries);
    std::uint32_t visible = run.end;  // from here on some member sees the run
    for (const std::uint32_t s : group.members)
      visible = std::min(visible, first_visible(args.sequences[s].first_position, args.window));
    group.begin = std::max(run.begin, visible);
    group.end = run.end;
    if (group.begin == group.end) continue;
    for (group.kv_head = 0; group.kv_head < args.kv.layout->kv_heads; ++group.kv_head)
      add_group(args, group, shared_chunk);
  }
}

void attention_plan::add_group(const attention_args& args, query_group group, std::uint32_t chunk) {
  const std::size_t dim = padded_dim(args.kv.layout->head_dim);
  const std::size_t rows =
      std::size_t{group.num_queries} * (args.num_heads / args.kv.layout->kv_heads);
  const std::uint32_t first_chunk = group.begin / chunk;
  group.num_chunks = (group.end - 1) / chunk - first_chunk + 1;
  for (std::uint32_t c = 0; c < group.num_chunks; ++c) {
    const std::uint32_t chunk_begin = (first_chunk + c) * chunk;
    const attention_item item{.group = static_cast<std::uint32_t>(groups_.size()),
                              .chunk = c,
                              .begin = std::max(group.begin, chunk_begin),
                              .end = std::min(group.end, chunk_begin + chunk)};
    items_.push_back(item);
    // Reading a key and a value row costs about as much as six more query rows.
    split_.add((item.end - item.begin) * dim * (rows + 6));
  }
  groups_.push_back(group);
}

// Gives every group with several parts its memory, and every lone token the parts that shared
// groups compute for it.
void attention_plan::list_shared_parts(std::size_t heads_per_kv, std::size_t dim) {
  shared_parts_.clear();
  for (query_group& group : groups_)
    for (const std::uint32_t member : group.members)
      groups_[group_of(member, group.kv_head)].num_shared += group.num_chunks;
  first_shared_.assign(groups_.size(), 0);
  std::size_t num_shared = 0;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    query_group& group = groups_[g];
    first_shared_[g] = num_shared;
    num_shared += group.num_shared;
    if (group.is_whole()) continue;
    group.partial = num_partial_floats_;
    num_partial_floats_ += group.num_chunks * partial_floats(group.num_queries * heads_per_kv, dim);
  }
  if (num_shared == 0) return;
  shared_parts_.resize(num_shared);
  for (const query_group& group : groups_) {  // runs come in the order of their positions
    const std::size_t rows = group.num_queries * heads_per_kv;
    for (std::size_t m = 0; m < group.members.size(); ++m) {
      const std::size_t own = group_of(group.members[m], group.kv_head);
      for (std::size_t c = 0; c < group.num_chunks; ++c)
        shared_parts_[first_shared_[own]++] = {
            .group = static_cast<std::uint32_t>(own),
            .partial = group.partial + c * partial_floats(rows, dim),
            .num_rows = rows,
            .first_row = m * heads_per_kv};
    }
  }
  for (std::size_t g = 0; g < groups_.size(); ++g) first_shared_[g] -= groups_[g].num_shared;
}

void attention_plan::reset_counters() {
  if (parts_capacity_ < groups_.size()) {
    parts_capacity_ = std::max(groups_.size(), 2 * parts_capacity_);
    parts_left_ = std::make_unique<std::atomic<std::uint32_t>[]>(parts_capacity_);
  }
  for (std::size_t g = 0; g < groups_.size(); ++g)
    parts_left_[g].store(groups_[g].num_chunks + groups_[g].num_shared, std::memory_order_relaxed);
}

}  // namespace quire
