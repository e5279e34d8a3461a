#include "compute/ops/attention_plan.hpp"

#include <algorithm>

#include "compute/attention_kernels.hpp"

namespace quire {

void attention_plan::make(const attention_args& args, bool all_blocked) {
  groups_.clear();
  items_.clear();
  split_.clear();
  num_partial_floats_ = 0;
  const std::uint32_t kv_heads = args.kv.layout->kv_heads;
  const std::uint32_t block =
      std::clamp(prefill_rows / (args.num_heads / kv_heads), std::uint32_t{1}, prefill_rows);
  // Prefill first: its items are the large ones, and small ones fill the gaps at the end.
  for (const bool prefill : {true, false}) {
    for (std::uint32_t s = 0; s < args.sequences.size(); ++s) {
      const std::uint32_t tokens = args.sequences[s].num_tokens;
      if ((tokens > 1) != prefill) continue;
      for (std::uint32_t first = 0; first < tokens; first += block)
        for (std::uint32_t head = 0; head < kv_heads; ++head)
          add_group(args, {.sequence = s,
                           .first_query = first,
                           .num_queries = std::min(block, tokens - first),
                           .kv_head = head,
                           .blocked = prefill || all_blocked});
    }
  }
  if (chunks_capacity_ < groups_.size()) {
    chunks_capacity_ = std::max(groups_.size(), 2 * chunks_capacity_);
    chunks_left_ = std::make_unique<std::atomic<std::uint32_t>[]>(chunks_capacity_);
  }
  for (std::size_t g = 0; g < groups_.size(); ++g)
    chunks_left_[g].store(groups_[g].num_chunks, std::memory_order_relaxed);
}

void attention_plan::add_group(const attention_args& args, query_group group) {
  const attention_sequence& sequence = args.sequences[group.sequence];
  const std::uint32_t position = sequence.first_position + group.first_query;
  const std::uint32_t chunk = group.blocked ? prefill_chunk : decode_chunk;
  const std::size_t dim = padded_dim(args.kv.layout->head_dim);
  const std::size_t rows =
      std::size_t{group.num_queries} * (args.num_heads / args.kv.layout->kv_heads);
  group.begin = first_visible(position, args.window);
  group.end = position + group.num_queries;
  const std::uint32_t first_chunk = group.begin / chunk;
  group.num_chunks = (group.end - 1) / chunk - first_chunk + 1;
  group.partial = num_partial_floats_;
  if (group.num_chunks > 1) num_partial_floats_ += group.num_chunks * partial_floats(rows, dim);
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

}  // namespace quire
