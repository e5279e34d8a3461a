#include "compute/ops/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <new>

#include "compute/attention_kernels.hpp"
#include "compute/kernel_table.hpp"
#include "compute/ops/attention_plan.hpp"
#include "core/check.hpp"

namespace quire {
namespace {

constexpr float log2_e = 1.44269504088896341f;
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// How far ahead of their use decoding asks for rows: memory takes as long as computing on some
// pages.
constexpr std::size_t pages_ahead = 4;

// Keys that prefill decodes and multiplies at a time.
constexpr std::uint32_t key_block = 64;

// Cache-line aligned floats that grow and stay. What they held before growing is lost.
class float_buffer {
 public:
  float* reserve(std::size_t n) {
    if (n > capacity_) {
      data_.reset();
      data_.reset(static_cast<float*>(::operator new(n * sizeof(float), alignment)));
      capacity_ = n;
      // Pads are read, and masked afterwards: they must hold something.
      std::fill_n(data_.get(), n, 0.0f);
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct release {
    void operator()(float* p) const noexcept { ::operator delete(p, alignment); }
  };
  std::unique_ptr<float[], release> data_;
  std::size_t capacity_ = 0;
};

// Hands out aligned parts of one buffer.
class carver {
 public:
  explicit carver(float* base) noexcept : next_(base) {}
  float* take(std::size_t n) noexcept {
    float* part = next_;
    next_ += rounded(n);
    return part;
  }
  static constexpr std::size_t rounded(std::size_t n) noexcept { return (n + 15) / 16 * 16; }

 private:
  float* next_;
};

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

std::size_t page_offset(const paged_rows& rows, std::size_t position) noexcept {
  return to_index(rows.table[position / rows.page_tokens]) * rows.page_bytes;
}

// Where a group's results over some positions go: unnormalized, with the maxima and sums they need.
struct partial_result {
  float* maxima;  // (rows)
  float* sums;    // (rows)
  float* values;  // (rows, padded_dim)
};

partial_result partial_at(float* base, std::size_t rows) noexcept {
  return {base, base + rows, base + 2 * rows};
}

// One call of attention(): what its items share.
class attention_run {
 public:
  attention_run(const attention_args& args, const attention_kernels& kernels, attention_plan& plan,
                float* partials) noexcept
      : args_(args),
        layout_(*args.kv.layout),
        kernels_(kernels),
        plan_(plan),
        partials_(partials),
        dim_(padded_dim(layout_.head_dim)),
        heads_per_kv_(args.num_heads / layout_.kv_heads) {}

  void run_item(std::size_t index) const {
    const attention_item& item = plan_.items()[index];
    const query_group& group = plan_.groups()[item.group];
    const std::size_t rows = group.num_queries * heads_per_kv_;
    const bool whole = group.num_chunks == 1;
    carver scratch(thread_buffer().reserve(scratch_floats(rows)));
    float* own = scratch.take(partial_floats(rows, dim_));
    const partial_result result = partial_at(
        whole ? own : partials_ + group.partial + item.chunk * partial_floats(rows, dim_), rows);
    const float* queries = load_queries(group, scratch.take(rows * dim_));
    if (group.blocked)
      prefill(group, item, queries, scratch, result);
    else
      decode(group, index, queries, scratch, result);
    if (whole)
      write(group, result);
    else if (plan_.finish_chunk(item.group))
      merge(group, partial_at(own, rows));
  }

 private:
  static constexpr std::size_t score_stride = attention_plan::decode_chunk + score_slack;

  std::size_t scratch_floats(std::size_t rows) const noexcept {
    const std::size_t decoding = carver::rounded(rows * score_stride);
    const std::size_t prefilling = carver::rounded(rows * key_block) +
                                   2 * carver::rounded(key_block * dim_) +
                                   carver::rounded(transpose_rows * dim_);
    return carver::rounded(partial_floats(rows, dim_)) + carver::rounded(rows * dim_) +
           std::max(decoding, prefilling);
  }

  // Copies the group's query rows, (rows, padded_dim), scaled for exponentials to base 2.
  const float* load_queries(const query_group& group, float* out) const noexcept {
    const attention_sequence& sequence = args_.sequences[group.sequence];
    const float factor = args_.scale * log2_e;
    for (std::size_t t = 0; t < group.num_queries; ++t) {
      const float* row = args_.q + (sequence.first_row + group.first_query + t) * args_.q_stride +
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

  paged_rows rows_of_group(const query_group& group) const noexcept {
    return rows_of(args_.kv, args_.sequences[group.sequence], group.kv_head);
  }

  // Lists the rows of one part in the pages of [begin, end), at most `most` pages.
  static row_fetch* list_rows(const paged_rows& rows, kv_part part, std::size_t begin,
                              std::size_t end, std::size_t most, row_fetch* out) noexcept {
    const bool keys = part == kv_part::key;
    const std::size_t row_bytes = keys ? rows.row_bytes_k : rows.row_bytes_v;
    for (std::size_t p = begin; p < end && most > 0; --most) {
      const std::size_t slot = p % rows.page_tokens;
      const std::size_t n = std::min(rows.page_tokens - slot, end - p);
      *out++ = {rows.pages + page_offset(rows, p) + (keys ? rows.offset_k : rows.offset_v) +
                    slot * row_bytes,
                n * row_bytes};
      p += n;
    }
    return out;
  }

  void decode(const query_group& group, std::size_t index, const float* queries, carver& scratch,
              const partial_result& result) const {
    // What will be read, page by page: keys, values, and the next item's keys.
    std::array<row_fetch, 2 * attention_plan::decode_chunk + 2 * pages_ahead> stream;
    const attention_item& item = plan_.items()[index];
    const paged_rows rows = rows_of_group(group);
    constexpr std::size_t all = attention_plan::decode_chunk;
    row_fetch* values = list_rows(rows, kv_part::key, item.begin, item.end, all, stream.data());
    row_fetch* next = list_rows(rows, kv_part::value, item.begin, item.end, all, values);
    if (index + 1 < plan_.items().size()) {  // most often this thread's next
      const attention_item& after = plan_.items()[index + 1];
      next = list_rows(rows_of_group(plan_.groups()[after.group]), kv_part::key, after.begin,
                       after.end, pages_ahead, next);
    }
    std::fill_n(next, pages_ahead, row_fetch{nullptr, 0});
    float* scores = scratch.take(heads_per_kv_ * score_stride);
    kernels_.scores[static_cast<std::size_t>(layout_.type_k)](rows, item.begin, item.end, queries,
                                                              heads_per_kv_, scores, score_stride,
                                                              stream.data() + pages_ahead);
    for (std::size_t h = 0; h < heads_per_kv_; ++h)
      result.sums[h] =
          kernels_.softmax(scores + h * score_stride, item.end - item.begin, result.maxima[h]);
    kernels_.weigh[static_cast<std::size_t>(layout_.type_v)](rows, item.begin, item.end, scores,
                                                             score_stride, heads_per_kv_,
                                                             result.values, values + pages_ahead);
  }

  void prefill(const query_group& group, const attention_item& item, const float* queries,
               carver& scratch, const partial_result& result) const {
    const paged_rows rows = rows_of_group(group);
    const std::size_t num_rows = group.num_queries * heads_per_kv_;
    prefill_buffers buffers{.queries = queries,
                            .scores = scratch.take(num_rows * key_block),
                            .keys = scratch.take(key_block * dim_),
                            .values = scratch.take(key_block * dim_),
                            .rows = scratch.take(transpose_rows * dim_)};
    std::fill_n(result.maxima, num_rows, minus_infinity);
    std::fill_n(result.sums, num_rows, 0.0f);
    std::fill_n(result.values, num_rows * dim_, 0.0f);
    // Blocks lie at multiples of their size, so that what a row sums up, and in which order, does
    // not depend on how the prompt was cut.
    for (std::uint32_t block = item.begin / key_block * key_block; block < item.end;
         block += key_block) {
      const std::uint32_t first = std::max(block, item.begin);
      const std::uint32_t last = std::min(block + key_block, item.end);
      load_block(rows, block, first, last, buffers);
      attend_block(group, block, first, last, buffers, result);
    }
  }

  struct prefill_buffers {
    const float* queries;  // (rows, padded_dim)
    float* scores;         // (rows, key_block)
    float* keys;           // (padded_dim, key_block)
    float* values;         // (key_block, padded_dim)
    float* rows;           // (transpose_rows, padded_dim)
  };

  // Decodes the keys and values of positions [first, last) of the block that begins at `block`.
  void load_block(const paged_rows& rows, std::uint32_t block, std::uint32_t first,
                  std::uint32_t last, const prefill_buffers& buffers) const noexcept {
    const auto decode_k = kernels_.decode[static_cast<std::size_t>(layout_.type_k)];
    const auto decode_v = kernels_.decode[static_cast<std::size_t>(layout_.type_v)];
    for (std::uint32_t p = first; p < last; ++p) {
      const std::byte* page = rows.pages + page_offset(rows, p);
      const std::size_t slot = p % rows.page_tokens;
      const std::size_t row = p - block;
      const std::size_t within = row % transpose_rows;
      decode_k(page + rows.offset_k + slot * rows.row_bytes_k, rows.head_dim,
               buffers.rows + within * dim_);
      decode_v(page + rows.offset_v + slot * rows.row_bytes_v, rows.head_dim,
               buffers.values + row * dim_);
      if (within + 1 == transpose_rows || p + 1 == last)
        kernels_.transpose(buffers.rows, dim_, dim_, buffers.keys + (row - within), key_block);
    }
  }

  // Carries the online softmax of the group's rows on over positions [first, last).
  void attend_block(const query_group& group, std::uint32_t block, std::uint32_t first,
                    std::uint32_t last, const prefill_buffers& buffers,
                    const partial_result& result) const noexcept {
    const std::uint32_t position =
        args_.sequences[group.sequence].first_position + group.first_query;
    // Tokens before `from` come before all of these keys; the window of those from `to` on after.
    const std::uint32_t from = first > position ? first - position : 0;
    std::uint32_t to = group.num_queries;
    if (args_.window != 0) {
      const std::uint64_t reach = std::uint64_t{last} + args_.window - 1;
      to = reach <= position
               ? 0
               : static_cast<std::uint32_t>(std::min<std::uint64_t>(to, reach - position));
    }
    if (from >= to) return;
    const std::size_t first_row = from * heads_per_kv_;
    const std::size_t num_rows = (to - from) * heads_per_kv_;
    const std::size_t columns = padded_dim(last - block);
    float* scores = buffers.scores + first_row * key_block;
    float* values = result.values + first_row * dim_;
    kernels_.multiply(buffers.queries + first_row * dim_, dim_, buffers.keys, key_block, num_rows,
                      layout_.head_dim, columns, scores, key_block, false);
    for (std::uint32_t t = from; t < to; ++t) {
      const std::uint32_t own = position + t;
      const std::uint32_t low = std::max(first, first_visible(own, args_.window)) - block;
      const std::uint32_t high = std::min(last, own + 1) - block;
      for (std::size_t r = t * heads_per_kv_; r < (t + 1) * heads_per_kv_; ++r) {
        const float factor = kernels_.softmax_block(buffers.scores + r * key_block, columns, low,
                                                    high, result.maxima[r], result.sums[r]);
        if (factor != 1.0f) kernels_.scale(result.values + r * dim_, dim_, factor);
      }
    }
    const std::size_t skipped = first - block;
    kernels_.multiply(scores + skipped, key_block, buffers.values + skipped * dim_, dim_, num_rows,
                      last - first, dim_, values, dim_, true);
  }

  // Merges the chunks of a group, in their order.
  void merge(const query_group& group, const partial_result& result) const noexcept {
    const std::size_t rows = group.num_queries * heads_per_kv_;
    float* parts = partials_ + group.partial;
    for (std::size_t r = 0; r < rows; ++r) {
      float max = minus_infinity;
      for (std::size_t c = 0; c < group.num_chunks; ++c)
        max = std::max(max, parts[c * partial_floats(rows, dim_) + r]);
      float* to = result.values + r * dim_;
      std::fill_n(to, dim_, 0.0f);
      float sum = 0.0f;
      for (std::size_t c = 0; c < group.num_chunks; ++c) {
        const partial_result part = partial_at(parts + c * partial_floats(rows, dim_), rows);
        if (part.sums[r] == 0.0f) continue;  // the row sees nothing of this chunk
        const float factor = std::exp2(part.maxima[r] - max);
        sum += part.sums[r] * factor;
        const float* from = part.values + r * dim_;
        for (std::size_t d = 0; d < layout_.head_dim; ++d) to[d] += from[d] * factor;
      }
      result.sums[r] = sum;
    }
    write(group, result);
  }

  void write(const query_group& group, const partial_result& result) const noexcept {
    const attention_sequence& sequence = args_.sequences[group.sequence];
    for (std::size_t t = 0; t < group.num_queries; ++t) {
      float* row = args_.out + (sequence.first_row + group.first_query + t) * args_.out_stride +
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
      std::byte* page = kv.pages + page_offset(rows, position);
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
  attention_plan& plan = reused_plan;
  plan.make(args, context.row_independent);
  float* partials = reused_partials.reserve(plan.num_partial_floats());
  const attention_run run(args, *context.kernels->attention, plan, partials);
  plan.split().run(*context.threads, [&](std::size_t i) { run.run_item(i); });
}

}  // namespace quire
