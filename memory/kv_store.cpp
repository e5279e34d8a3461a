#include "memory/kv_store.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "compute/kv_row.hpp"

namespace quire {

// Rows that hold no stored token are kept zero (scrub), so that no sequence reads what another left
// behind and growth without data has a meaning. Pages that were never written cost nothing.

result<kv_store> kv_store::make(const kv_layout& layout, std::uint32_t num_pages) {
  auto store = page_store::make(num_pages, layout.page_tokens);
  if (!store) return tl::unexpected(std::move(store.error()));
  auto pool = page_pool::make(layout, num_pages);
  if (!pool) return tl::unexpected(std::move(pool.error()));
  const auto kernels = select_kernels("auto");
  if (!kernels) return tl::unexpected(kernels.error());
  return kv_store(std::move(*store), std::move(*pool), **kernels);
}

kv_store::kv_store(page_store store, page_pool pool, const kernel_table& kernels)
    : store_(std::move(store)),
      pool_(std::move(pool)),
      kernels_(&kernels),
      written_(pool_.max_pages()),
      encoded_(std::max(layout().row_bytes_k, layout().row_bytes_v)) {}

result<sequence_id> kv_store::allocate(std::uint64_t tokens) {
  return store_.allocate(tokens);
}

result<void> kv_store::extend(sequence_id id, std::uint64_t tokens) {
  return store_.extend(id, tokens);
}

result<void> kv_store::update_tokens(sequence_id id, std::uint64_t tokens) {
  touched_.clear();
  if (tokens < store_.tokens(id).value_or(0)) remember_pages(id, tokens);
  auto updated = store_.update_tokens(id, tokens, copies_);
  if (!updated) return updated;
  apply_copies();
  for (const page_id page : touched_) scrub(page);
  return {};
}

result<void> kv_store::truncate(sequence_id id, std::uint64_t tokens) {
  remember_pages(id, tokens);
  auto truncated = store_.truncate(id, tokens);
  if (!truncated) return truncated;
  for (const page_id page : touched_) scrub(page);
  return {};
}

result<sequence_id> kv_store::fork(sequence_id id) {
  return store_.fork(id);
}

void kv_store::free(sequence_id id) {
  remember_pages(id, 0);
  store_.free(id);
  for (const page_id page : touched_) scrub(page);
}

result<writable_page> kv_store::page_for_writing(sequence_id id, std::uint64_t position) {
  auto page = store_.page_for_writing(id, position);
  if (page && page->copy) {
    copies_.push_back(*page->copy);
    apply_copies();
  }
  return page;
}

std::uint32_t kv_store::compact(sequence_id id) {
  const std::uint32_t moved = store_.compact(id, copies_);
  follow_moves();
  return moved;
}

std::uint32_t kv_store::defragment(std::uint32_t max_moves) {
  const std::uint32_t moved = store_.defragment(max_moves, copies_);
  follow_moves();
  return moved;
}

std::uint32_t kv_store::resize(std::uint32_t num_pages) {
  return store_.resize(std::min(num_pages, pool_.max_pages()));
}

std::size_t kv_store::trim() {
  return pool_.trim(store_.tail_begin());
}

result<void> kv_store::put(sequence_id id, std::uint64_t position, kv_row row,
                           std::span<const float> values) {
  if (auto valid = check_row(row, values.size()); !valid) return valid;
  if (auto known = store_.page_for_reading(id, position); !known)
    return tl::unexpected(std::move(known.error()));
  const kv_type type = layout().type(row.part);
  if (auto encoded = encode_kv_row_checked(*kernels_, type, values, encoded_.data()); !encoded)
    return encoded;
  if (position >= *store_.tokens(id))
    if (auto grown = update_tokens(id, position + 1); !grown) return grown;
  const auto page = page_for_writing(id, position);
  if (!page) return tl::unexpected(page.error());
  std::memcpy(row_of(page->info.page, position, row), encoded_.data(),
              layout().row_bytes(row.part));
  written_[to_index(page->info.page)] = true;
  return {};
}

result<void> kv_store::get(sequence_id id, std::uint64_t position, kv_row row,
                           std::span<float> values) {
  if (auto valid = check_row(row, values.size()); !valid) return valid;
  const auto page = store_.page_for_reading(id, position);
  if (!page) return tl::unexpected(page.error());
  // A sharer of the page may have stored more than this sequence.
  if (position >= *store_.tokens(id) || !written_[to_index(page->page)]) {
    std::fill(values.begin(), values.end(), 0.0f);
    return {};
  }
  decode_kv_row(*kernels_, layout().type(row.part), row_of(page->page, position, row), values);
  return {};
}

kv_memory kv_store::memory() const {
  const store_stats stats = store_.stats();
  kv_memory memory;
  memory.page_bytes = layout().page_bytes;
  memory.used_bytes = stats.used_pages * layout().page_bytes;
  memory.capacity_bytes = (stats.used_pages + stats.free_pages) * layout().page_bytes;
  memory.f32_bytes = stats.used_pages * layout().f32_page_bytes();
  if (stats.used_pages > 0)
    memory.ratio = static_cast<double>(memory.used_bytes) / static_cast<double>(memory.f32_bytes);
  return memory;
}

result<void> kv_store::check_row(kv_row row, std::size_t num_values) const {
  const kv_layout& l = layout();
  if (row.layer >= l.layers)
    return fail(errc::invalid_argument, "layer " + std::to_string(row.layer) + " of " +
                                            std::to_string(l.layers) + " does not exist");
  if (row.head >= l.kv_heads)
    return fail(errc::invalid_argument, "head " + std::to_string(row.head) + " of " +
                                            std::to_string(l.kv_heads) + " does not exist");
  if (num_values != l.head_dim)
    return fail(errc::invalid_argument, "a row has " + std::to_string(l.head_dim) +
                                            " values, not " + std::to_string(num_values));
  return {};
}

std::byte* kv_store::row_of(page_id page, std::uint64_t position, kv_row row) noexcept {
  return pool_.page(page).data() + layout().rows_offset(row.layer, row.part, row.head) +
         position % layout().page_tokens * layout().row_bytes(row.part);
}

// Notes the pages that hold tokens from `from_token` on: their rows may end to be stored.
void kv_store::remember_pages(sequence_id id, std::uint64_t from_token) {
  touched_.clear();
  const auto table = store_.table(id);
  if (!table) return;
  for (std::uint64_t i = from_token / layout().page_tokens; i < table->size(); ++i)
    if (written_[to_index((*table)[i])]) touched_.push_back((*table)[i]);
}

void kv_store::apply_copies() {
  for (const page_copy& copy : copies_) {
    const bool has_bytes = written_[to_index(copy.from)];
    if (has_bytes)
      pool_.apply({&copy, 1});
    else if (written_[to_index(copy.to)])  // vacated by an earlier copy
      std::memset(pool_.page(copy.to).data(), 0, layout().page_bytes);
    written_[to_index(copy.to)] = has_bytes;
  }
  for (const page_copy& copy : copies_) scrub(copy.from);
  copies_.clear();
}

void kv_store::follow_moves() {
  apply_copies();
  for (const auto& [from, to] : store_.take_moves()) {
    scrub(from);
    scrub(to);
  }
}

void kv_store::scrub(page_id page) noexcept {
  if (!written_[to_index(page)]) return;
  const std::uint32_t tokens = store_.info(page).tokens;
  const kv_layout& l = layout();
  std::byte* bytes = pool_.page(page).data();
  if (tokens == 0) {
    std::memset(bytes, 0, l.page_bytes);
    written_[to_index(page)] = false;
    return;
  }
  for (std::uint32_t layer = 0; layer < l.layers; ++layer)
    for (const kv_part part : {kv_part::key, kv_part::value})
      for (std::uint32_t head = 0; head < l.kv_heads; ++head)
        std::memset(bytes + l.rows_offset(layer, part, head) + tokens * l.row_bytes(part), 0,
                    (l.page_tokens - tokens) * l.row_bytes(part));
}

}  // namespace quire
