#include "compute/ops/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "compute/attention_kernels.hpp"
#include "compute/kernel_table.hpp"
#include "compute/ops/attention_plan.hpp"
#include "compute/ops/attention_scratch.hpp"
#include "compute/ops/attention_tile.hpp"
#include "core/check.hpp"

namespace quire {
namespace {

constexpr float log2_e = 1.44269504088896341f;
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// How far ahead of their use decoding asks for rows: memory takes as long as computing on some
// pages.
constexpr std::size_t pages_ahead = 4;

// The same for rows that are multiplied as they are: shorter, and their scales are read first.
constexpr std::size_t packed_pages_ahead = 8;

constexpr std::size_t cache_line = 64;

float_buffer& thread_buffer() {
  thread_local float_buffer buffer;
  return buffer;
}

paged_rows rows_of(const paged_kv& kv, const attention_sequence& sequence,
                   std::uint32_t kv_head) noexcept {
  const kv_layout& layout = *kv.layout;
  return {.pages = kv.pages,
          .page_bytes = layout.page_bytes,
          .table = sequence.table.data(),
          .page_tokens = layout.page_tokens,
          .head_dim = layout.head_dim,
          .offset_k = layout.rows_offset(kv.layer, kv_part::key, kv_head),
          .offset_v = layout.rows_offset(kv.layer, kv_part::value, kv_head),
          .row_bytes_k = layout.row_bytes_k,
          .row_bytes_v = layout.row_bytes_v};
}

// One call of attention(): what its items share.
class attention_run {
 public:
  attention_run(const attention_args& args, const attention_kernels& kernels, packed_parts packed,
                attention_plan& plan, float* partials) noexcept
      : args_(args),
        layout_(*args.kv.layout),
        kernels_(kernels),
        packed_(packed),
        plan_(plan),
        partials_(partials),
        dim_(padded_dim(layout_.head_dim)),
        heads_per_kv_(args.num_heads / layout_.kv_heads) {}

  void run_item(std::size_t index) const {
    const attention_item& item = plan_.items()[index];
    const query_group& group = plan_.groups()[item.group];
    const std::size_t rows = group.num_queries * heads_per_kv_;
    carver scratch(thread_buffer().reserve(scratch_floats(rows)));
    float* own = scratch.take(partial_floats(rows, dim_));
    const partial_result result = partial_at(
        group.is_whole() ? own
                         : partials_ + group.partial + item.chunk * partial_floats(rows, dim_),
        rows);
    const float* queries = load_queries(group, scratch.take(rows * dim_));
    if (group.blocked) {
      const auto ranges = visible_ranges(group, scratch.take_as<visible_range>(rows));
      const paged_rows pages = rows_of_group(group);
      const paged_rows after = rows_of_next(index);
      attention_tile(kernels_, layout_, packed_, queries, ranges, scratch)
          .run(pages, item.begin, item.end, next_run(index, after), result);
    } else {
      decode(group, index, queries, scratch, result);
    }
    finish(group, item.group, result, own);
  }

 private:
  static constexpr std::size_t score_stride = attention_plan::decode_chunk + score_slack;

  std::size_t scratch_floats(std::size_t rows) const noexcept {
    const std::size_t decoding = carver::rounded(rows * score_stride) +
                                 carver::rounded(carver::floats_for<std::int8_t>(rows * dim_)) +
                                 2 * carver::rounded(rows * dim_ / kv_block_values);
    const std::size_t blocked = carver::rounded(carver::floats_for<visible_range>(rows)) +
                                attention_tile::scratch_floats(rows, dim_);
    return carver::rounded(partial_floats(rows, dim_)) + carver::rounded(rows * dim_) +
           std::max(decoding, blocked);
  }

  const attention_sequence& sequence_of(const query_group& group,
                                        std::size_t token) const noexcept {
    return args_.sequences[group.members.empty() ? group.sequence : group.members[token]];
  }
  // The place of a group's token within its sequence's share of the step.
  static std::uint32_t query_of(const query_group& group, std::size_t token) noexcept {
    return group.members.empty() ? group.first_query + static_cast<std::uint32_t>(token) : 0;
  }

  // Copies the group's query rows, (rows, padded_dim), scaled for exponentials to base 2.
  const float* load_queries(const query_group& group, float* out) const noexcept {
    const float factor = args_.scale * log2_e;
    for (std::size_t t = 0; t < group.num_queries; ++t) {
      const float* row = args_.q +
                         (sequence_of(group, t).first_row + query_of(group, t)) * args_.q_stride +
                         group.kv_head * heads_per_kv_ * layout_.head_dim;
      for (std::size_t h = 0; h < heads_per_kv_; ++h) {
        float* to = out + (t * heads_per_kv_ + h) * dim_;
        const float* from = row + h * layout_.head_dim;
        for (std::size_t d = 0; d < layout_.head_dim; ++d) to[d] = from[d] * factor;
        for (std::size_t d = layout_.head_dim; d < dim_; ++d) to[d] = 0.0f;
      }
    }
    return out;
  }

  std::span<const visible_range> visible_ranges(const query_group& group,
                                                visible_range* out) const noexcept {
    for (std::size_t t = 0; t < group.num_queries; ++t) {
      const std::uint32_t position = sequence_of(group, t).first_position + query_of(group, t);
      std::fill_n(out + t * heads_per_kv_, heads_per_kv_,
                  visible_range{first_visible(position, args_.window), position + 1});
    }
    return {out, group.num_queries * heads_per_kv_};
  }

  paged_rows rows_of_group(const query_group& group) const noexcept {
    return rows_of(args_.kv, sequence_of(group, 0), group.kv_head);
  }

  // The next item in the list is most often this thread's next.
  paged_rows rows_of_next(std::size_t index) const noexcept {
    if (index + 1 >= plan_.items().size()) return {};
    return rows_of_group(plan_.groups()[plan_.items()[index + 1].group]);
  }
  position_run next_run(std::size_t index, const paged_rows& rows) const noexcept {
    if (index + 1 >= plan_.items().size()) return {};
    const attention_item& next = plan_.items()[index + 1];
    return {&rows, next.begin, next.end};
  }

  void decode(const query_group& group, std::size_t index, const float* queries, carver& scratch,
              const partial_result& result) const {
    // What will be read, page by page: keys, values, and the next item's keys.
    std::array<row_fetch, 2 * attention_plan::decode_chunk + 2 * packed_pages_ahead> stream;
    const bool packed = packed_.keys && packed_.values;
    const std::size_t ahead = packed ? packed_pages_ahead : pages_ahead;
    const attention_item& item = plan_.items()[index];
    const paged_rows rows = rows_of_group(group);
    constexpr std::size_t all = attention_plan::decode_chunk;
    row_fetch* values = stream.data() + list_stretches(rows, kv_part::key, item.begin, item.end,
                                                       all, stream.data());
    row_fetch* next =
        values + list_stretches(rows, kv_part::value, item.begin, item.end, all, values);
    if (index + 1 < plan_.items().size()) {
      const attention_item& after = plan_.items()[index + 1];
      next +=
          list_stretches(rows_of_next(index), kv_part::key, after.begin, after.end, ahead, next);
    }
    std::fill_n(next, ahead, row_fetch{nullptr, 0});
    // Nobody has asked for the first pages of a task, nor for values that follow few keys.
    for (const row_fetch& first : std::span(stream).first(ahead))
      for (std::size_t byte = 0; byte < first.bytes; byte += cache_line)
        __builtin_prefetch(first.from + byte);
    float* scores = scratch.take(heads_per_kv_ * score_stride);
    const row_fetch* meanwhile = stream.data() + ahead;
    const auto type_k = static_cast<std::size_t>(layout_.type_k);
    const auto type_v = static_cast<std::size_t>(layout_.type_v);
    if (packed)
      kernels_.packed->scores[type_k](rows, item.begin, item.end, quantize(queries, scratch),
                                      heads_per_kv_, scores, score_stride, meanwhile);
    else
      kernels_.scores[type_k](rows, item.begin, item.end, queries, heads_per_kv_, scores,
                              score_stride, meanwhile);
    for (std::size_t h = 0; h < heads_per_kv_; ++h)
      result.sums[h] =
          kernels_.softmax(scores + h * score_stride, item.end - item.begin, result.maxima[h]);
    (packed ? kernels_.packed->weigh_rows : kernels_.weigh)[type_v](
        rows, item.begin, item.end, scores, score_stride, heads_per_kv_, result.values,
        values + ahead);
  }

  // The query rows of a lone token, (heads per key head, padded_dim).
  packed_queries quantize(const float* queries, carver& scratch) const {
    const std::size_t blocks = dim_ / kv_block_values;
    const packed_queries out{.codes = scratch.take_as<std::int8_t>(heads_per_kv_ * dim_),
                             .scales = scratch.take(heads_per_kv_ * blocks),
                             .starts = scratch.take_as<std::int32_t>(heads_per_kv_ * blocks)};
    kernels_.packed->pack_queries[static_cast<std::size_t>(layout_.type_k)](queries, heads_per_kv_,
                                                                            dim_, out);
    return out;
  }

  // Writes or merges what the item was the last part of; `scratch` has room for the group's result.
  void finish(const query_group& group, std::size_t index, const partial_result& result,
              float* scratch) const noexcept {
    if (group.is_whole()) return write(group, result);
    if (group.members.empty()) {
      if (plan_.finish_part(index)) merge(index, scratch);
      return;
    }
    for (const std::uint32_t member : group.members) {
      const std::size_t own = plan_.group_of(member, group.kv_head);
      if (plan_.finish_part(own)) merge(own, scratch);
    }
  }

  // Where one row's share of a partial result lies.
  struct part_row {
    float max;
    float sum;
    const float* values;
  };
  part_row row_of(std::size_t partial, std::size_t num_rows, std::size_t row) const noexcept {
    const partial_result part = partial_at(partials_ + partial, num_rows);
    return {part.maxima[row], part.sums[row], part.values + row * dim_};
  }

  // Merges the parts of a group in the order of their positions.
  void merge(std::size_t index, float* scratch) const noexcept {
    const query_group& group = plan_.groups()[index];
    const std::size_t rows = group.num_queries * heads_per_kv_;
    const partial_result result = partial_at(scratch, rows);
    const auto shared = plan_.shared_parts(index);
    for (std::size_t r = 0; r < rows; ++r) {
      const auto for_each_part = [&](auto&& body) {
        for (const shared_part& part : shared)
          body(row_of(part.partial, part.num_rows, part.first_row + r));
        for (std::size_t c = 0; c < group.num_chunks; ++c)
          body(row_of(group.partial + c * partial_floats(rows, dim_), rows, r));
      };
      float max = minus_infinity;
      for_each_part([&](const part_row& part) { max = std::max(max, part.max); });
      float* to = result.values + r * dim_;
      std::fill_n(to, dim_, 0.0f);
      float sum = 0.0f;
      for_each_part([&](const part_row& part) {
        if (part.sum == 0.0f) return;  // the row sees nothing of this part
        const float factor = part.max == max ? 1.0f : std::exp2(part.max - max);
        sum += part.sum * factor;
        for (std::size_t d = 0; d < layout_.head_dim; ++d) to[d] += part.values[d] * factor;
      });
      result.sums[r] = sum;
    }
    write(group, result);
  }

  void write(const query_group& group, const partial_result& result) const noexcept {
    for (std::size_t t = 0; t < group.num_queries; ++t) {
      float* row = args_.out +
                   (sequence_of(group, t).first_row + query_of(group, t)) * args_.out_stride +
                   group.kv_head * heads_per_kv_ * layout_.head_dim;
      for (std::size_t h = 0; h < heads_per_kv_; ++h) {
        const std::size_t r = t * heads_per_kv_ + h;
        const float inverse = 1.0f / result.sums[r];
        for (std::size_t d = 0; d < layout_.head_dim; ++d)
          row[h * layout_.head_dim + d] = result.values[r * dim_ + d] * inverse;
      }
    }
  }

  const attention_args& args_;
  const kv_layout& layout_;
  const attention_kernels& kernels_;
  packed_parts packed_;
  attention_plan& plan_;
  float* partials_;
  std::size_t dim_;
  std::size_t heads_per_kv_;
};

void check_tables(const paged_kv& kv, std::span<const attention_sequence> sequences) {
  QUIRE_CHECK(kv.pages != nullptr && kv.layout != nullptr && kv.layer < kv.layout->layers,
              "attention needs pages and one of their layers");
  for (const auto& sequence : sequences)
    QUIRE_CHECK(sequence.table.size() * kv.layout->page_tokens >=
                    std::size_t{sequence.first_position} + sequence.num_tokens,
                "a block table must cover the tokens of the step");
}

// Tokens of one sequence to store together.
struct store_item {
  std::uint32_t sequence;
  std::uint32_t first;
  std::uint32_t last;
};

void store_tokens(const attention_kernels& kernels, const paged_kv& kv,
                  const attention_sequence& sequence, const store_item& item, const float* k,
                  const float* v, std::size_t stride) noexcept {
  const kv_layout& layout = *kv.layout;
  const auto encode_k = kernels.encode[static_cast<std::size_t>(layout.type_k)];
  const auto encode_v = kernels.encode[static_cast<std::size_t>(layout.type_v)];
  for (std::uint32_t head = 0; head < layout.kv_heads; ++head) {
    const paged_rows rows = rows_of(kv, sequence, head);
    for (std::uint32_t t = item.first; t < item.last; ++t) {
      const std::size_t position = sequence.first_position + t;
      const std::size_t slot = position % layout.page_tokens;
      const std::size_t at = (sequence.first_row + t) * stride + head * layout.head_dim;
      std::byte* page =
          kv.pages + to_index(rows.table[position / rows.page_tokens]) * rows.page_bytes;
      encode_k(k + at, layout.head_dim, page + rows.offset_k + slot * rows.row_bytes_k);
      encode_v(v + at, layout.head_dim, page + rows.offset_v + slot * rows.row_bytes_v);
    }
  }
}

}  // namespace

void store_kv(const compute_context& context, const paged_kv& kv,
              std::span<const attention_sequence> sequences, const float* k, const float* v,
              std::size_t stride) {
  constexpr std::uint32_t tokens_per_item = 16;
  struct work {
    std::vector<store_item> items;
    work_split split;
  };
  thread_local work reused;
  work& plan = reused;
  check_tables(kv, sequences);
  plan.items.clear();
  plan.split.clear();
  for (std::uint32_t s = 0; s < sequences.size(); ++s)
    for (std::uint32_t t = 0; t < sequences[s].num_tokens; t += tokens_per_item) {
      const std::uint32_t last = std::min(sequences[s].num_tokens, t + tokens_per_item);
      plan.items.push_back({s, t, last});
      // Encoding a value costs about ten additions.
      plan.split.add(std::size_t{10} * 2 * (last - t) * kv.layout->kv_heads * kv.layout->head_dim);
    }
  plan.split.run(*context.threads, [&](std::size_t i) {
    const store_item& item = plan.items[i];
    store_tokens(*context.kernels->attention, kv, sequences[item.sequence], item, k, v, stride);
  });
}

void attention(const compute_context& context, const attention_args& args) {
  thread_local attention_plan reused_plan;
  thread_local float_buffer reused_partials;
  check_tables(args.kv, args.sequences);
  QUIRE_CHECK(args.num_heads != 0 && args.num_heads % args.kv.layout->kv_heads == 0,
              "query heads must be a multiple of key heads");
  const attention_kernels& kernels = *context.kernels->attention;
  const packed_parts packed = packed_parts::of(kernels, *args.kv.layout, context.row_independent);
  attention_plan& plan = reused_plan;
  plan.make(args,
            {.row_independent = context.row_independent, .packed = packed.keys && packed.values});
  float* partials = reused_partials.reserve(plan.num_partial_floats());
  const attention_run run(args, kernels, packed, plan, partials);
  plan.split().run(*context.threads, [&](std::size_t i) { run.run_item(i); });
}

}  // namespace quire
