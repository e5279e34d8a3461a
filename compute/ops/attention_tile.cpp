#include "compute/ops/attention_tile.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace quire {
namespace {

constexpr std::size_t index(kv_type type) noexcept {
  return static_cast<std::size_t>(type);
}

}  // namespace

packed_parts packed_parts::of(const attention_kernels& kernels, const kv_layout& layout,
                              bool row_independent) noexcept {
  if (kernels.packed == nullptr) return {};
  return {
      .keys = kernels.packed->pack_keys[index(layout.type_k)] != nullptr,
      .values = !row_independent && kernels.packed->pack_values[index(layout.type_v)] != nullptr};
}

std::size_t list_stretches(const paged_rows& rows, kv_part part, std::size_t begin, std::size_t end,
                           std::size_t most, row_fetch* out) noexcept {
  const bool keys = part == kv_part::key;
  const std::size_t row_bytes = keys ? rows.row_bytes_k : rows.row_bytes_v;
  const std::size_t offset = keys ? rows.offset_k : rows.offset_v;
  const page_id* page = rows.table + begin / rows.page_tokens;
  std::size_t slot = begin % rows.page_tokens;
  std::size_t count = 0;
  for (std::size_t p = begin; p < end && count < most; ++count, ++page) {
    const std::size_t n = std::min(rows.page_tokens - slot, end - p);
    out[count] = {rows.pages + to_index(*page) * rows.page_bytes + offset + slot * row_bytes,
                  n * row_bytes};
    p += n;
    slot = 0;
  }
  return count;
}

std::size_t attention_tile::scratch_floats(std::size_t num_rows, std::size_t dim) noexcept {
  const std::size_t blocks = dim / kv_block_values;
  return carver::rounded(num_rows * block) +                                 // scores
         3 * carver::rounded(num_rows) +                                     //
         2 * carver::rounded(block * dim) +                                  // keys, values
         carver::rounded(transpose_rows * dim) +                             //
         carver::rounded(carver::floats_for<std::int8_t>(num_rows * dim)) +  // packed queries
         2 * carver::rounded(num_rows * blocks) +                            //
         carver::rounded(carver::floats_for<std::int8_t>(block * dim)) +     // packed keys
         carver::rounded(carver::floats_for<std::int16_t>(block * dim)) +    // packed values
         carver::rounded(dim) + 2 * carver::rounded(block * blocks) + carver::rounded(blocks);
}

attention_tile::attention_tile(const attention_kernels& kernels, const kv_layout& layout,
                               packed_parts packed, const float* queries,
                               std::span<const visible_range> visible, carver& scratch)
    : kernels_(kernels),
      layout_(layout),
      packed_(packed),
      queries_(queries),
      visible_(visible),
      dim_(padded_dim(layout.head_dim)),
      scores_(scratch.take(visible.size() * block)),
      factors_(scratch.take(visible.size())),
      lows_(scratch.take_as<std::uint32_t>(visible.size())),
      highs_(scratch.take_as<std::uint32_t>(visible.size())),
      keys_(scratch.take(block * dim_)),
      values_(scratch.take(block * dim_)),
      turning_(scratch.take(transpose_rows * dim_)) {
  const std::size_t num_rows = visible.size();
  const std::size_t blocks = dim_ / kv_block_values;
  if (packed.keys) {
    packed_queries_ = {.codes = scratch.take_as<std::int8_t>(num_rows * dim_),
                       .scales = scratch.take(num_rows * blocks),
                       .starts = scratch.take_as<std::int32_t>(num_rows * blocks)};
    packed_keys_ = {.codes = scratch.take_as<std::uint8_t>(block * dim_),
                    .scales = scratch.take(block * blocks)};
    kernels.packed->pack_queries[index(layout.type_k)](queries, num_rows, dim_, packed_queries_);
  }
  if (packed.values)
    packed_values_ = {.codes = scratch.take_as<std::int16_t>(block * dim_),
                      .starts = scratch.take_as<std::int32_t>(dim_),
                      .factors = scratch.take(block * blocks),
                      .units = scratch.take(blocks)};
}

void attention_tile::run(const paged_rows& rows, std::uint32_t begin, std::uint32_t end,
                         position_run next, const partial_result& result) const noexcept {
  const std::size_t num_rows = visible_.size();
  std::fill_n(result.maxima, num_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(result.sums, num_rows, 0.0f);
  std::fill_n(result.values, num_rows * dim_, 0.0f);
  for (std::uint32_t first = begin; first < end;) {
    const std::uint32_t last = std::min(first / block * block + block, end);
    load_block(rows, first, last, last < end ? position_run{&rows, last, end} : next);
    attend_block(first, last, result);
    first = last;
  }
}

// Packs or decodes positions [first, last), which lie in one block.
void attention_tile::load_block(const paged_rows& rows, std::uint32_t first, std::uint32_t last,
                                position_run next) const noexcept {
  std::array<row_fetch, block> fetch;
  const std::uint32_t next_end = std::min(next.end, next.begin / block * block + block);
  const auto list = [&](kv_part part) {
    return next.rows == nullptr
               ? std::size_t{0}
               : list_stretches(*next.rows, part, next.begin, next_end, fetch.size(), fetch.data());
  };
  if (packed_.keys) {
    const std::size_t n = list(kv_part::key);
    kernels_.packed->pack_keys[index(layout_.type_k)](rows, first, last, packed_keys_, fetch.data(),
                                                      n);
  } else {
    decode_part(rows, kv_part::key, first, last);
  }
  if (packed_.values) {
    const std::size_t n = list(kv_part::value);
    kernels_.packed->pack_values[index(layout_.type_v)](rows, first, last, packed_values_,
                                                        fetch.data(), n);
  } else {
    decode_part(rows, kv_part::value, first, last);
  }
}

void attention_tile::decode_part(const paged_rows& rows, kv_part part, std::uint32_t first,
                                 std::uint32_t last) const noexcept {
  const bool keys = part == kv_part::key;
  const auto decode = kernels_.decode[index(layout_.type(part))];
  const std::size_t row_bytes = keys ? rows.row_bytes_k : rows.row_bytes_v;
  for (std::uint32_t p = first; p < last; ++p) {
    const std::byte* from = page_of(rows, p) + (keys ? rows.offset_k : rows.offset_v) +
                            p % rows.page_tokens * row_bytes;
    const std::size_t column = p % block;
    if (!keys) {
      decode(from, rows.head_dim, values_ + column * dim_);
      continue;
    }
    const std::size_t within = column % transpose_rows;
    decode(from, rows.head_dim, turning_ + within * dim_);
    if (within + 1 == transpose_rows || p + 1 == last)
      kernels_.transpose(turning_, dim_, dim_, keys_ + (column - within), block);
  }
}

// Carries the online softmax of the rows on over positions [first, last) of one block.
void attention_tile::attend_block(std::uint32_t first, std::uint32_t last,
                                  const partial_result& result) const noexcept {
  const auto sees = [&](const visible_range& v) { return v.low < last && v.high > first; };
  const auto from = std::find_if(visible_.begin(), visible_.end(), sees);
  if (from == visible_.end()) return;
  const auto to = std::find_if(visible_.rbegin(), visible_.rend(), sees).base();
  const auto end_row = static_cast<std::size_t>(to - visible_.begin());
  for (auto row = static_cast<std::size_t>(from - visible_.begin()); row < end_row;
       row += tile_rows)
    attend_rows(first, last, row, std::min(tile_rows, end_row - row), result);
}

// The same for some of the rows.
void attention_tile::attend_rows(std::uint32_t first, std::uint32_t last, std::size_t first_row,
                                 std::size_t num_rows,
                                 const partial_result& result) const noexcept {
  const std::uint32_t base = first / block * block;
  const std::size_t columns = (last - base + transpose_rows - 1) / transpose_rows * transpose_rows;
  const std::size_t wide = padded_dim(last - base);
  if (packed_.keys)
    kernels_.packed->dot(packed_queries_, first_row, num_rows, packed_keys_, dim_, columns,
                         scores_);
  else
    kernels_.multiply(queries_ + first_row * dim_, dim_, keys_, block, num_rows, layout_.head_dim,
                      wide, scores_, block, false);
  for (std::size_t i = 0; i < num_rows; ++i) {
    const visible_range& range = visible_[first_row + i];
    lows_[i] = std::max(first, range.low) - base;
    highs_[i] = std::max(base, std::min(last, range.high)) - base;
  }
  kernels_.softmax_rows(scores_, block, num_rows, columns, lows_, highs_, result.maxima + first_row,
                        result.sums + first_row, factors_);
  float* values = result.values + first_row * dim_;
  if (packed_.values) {
    kernels_.packed->weigh(scores_, factors_, num_rows, packed_values_, dim_, columns, values);
    return;
  }
  for (std::size_t i = 0; i < num_rows; ++i)
    if (factors_[i] != 1.0f) kernels_.scale(values + i * dim_, dim_, factors_[i]);
  const std::size_t skipped = first - base;
  kernels_.multiply(scores_ + skipped, block, values_ + skipped * dim_, dim_, num_rows,
                    last - first, dim_, values, dim_, true);
}

}  // namespace quire
