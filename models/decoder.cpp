#include "models/decoder.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>

#include "compute/ops/elementwise.hpp"
#include "core/check.hpp"

namespace quire {

namespace {

/// How many rows a thread takes through the products of a layer at once. At most so many that what
/// lies between the products stays in its cache; fewer than the least are cheaper when all threads
/// take the same rows and share the weights. Weights beyond the shared cache are read by each
/// thread for itself, so then each reading must serve more rows. Measured on Zen 5 with 32 MiB of
/// third-level cache.
struct block_rows {
  std::size_t least;
  std::size_t most;
};
constexpr std::size_t cached_layer_bytes = std::size_t{8} << 20;
constexpr block_rows with_cached_weights{8, 32};
constexpr block_rows with_large_weights{32, 64};

std::size_t bytes_of(const layer_weights& w) {
  std::size_t bytes = 0;
  for (const packed_matrix* matrix : w.matrices()) bytes += matrix->size_bytes();
  return bytes;
}

/// Has the threads ask memory for the weights of the product after the next one while they wait for
/// it.
void expect(const compute_context& context, std::initializer_list<const packed_matrix*> next) {
  const std::size_t threads = context.threads->num_threads();
  if (threads == 1) return;
  for (std::size_t thread = 0; thread < threads; ++thread)
    context.threads->expect(thread, first_weights_of(thread, threads, {next.begin(), next.size()}));
}
void expect_layer(const compute_context& context, const layer_weights& next) {
  expect(context, {&next.q, &next.k, &next.v});
}

/// Returns rows [first, last) of a sequence, which has them.
attention_sequence rows_of(attention_sequence sequence, std::uint32_t first, std::uint32_t last) {
  sequence.first_position += first - sequence.first_row;
  sequence.first_row = first;
  sequence.num_tokens = last - first;
  return sequence;
}

/// Returns room for n floats, whose values are not kept.
float* room(std::vector<float>& buffer, std::size_t n) {
  if (buffer.size() < n) buffer.resize(n);
  return buffer.data();
}

}  // namespace

decoder::decoder(const compute_context& context, const model_config& config,
                 const model_weights& weights)
    : context_(context),
      one_thread_(std::make_unique<arena>(1)),
      config_(&config),
      weights_(&weights),
      large_weights_(
          std::any_of(weights.layers.begin(), weights.layers.end(),
                      [](const layer_weights& w) { return bytes_of(w) > cached_layer_bytes; })),
      workspaces_(context.threads->num_threads()),
      angles_(config.ropes.size()) {}

std::span<const float> decoder::forward(const token_batch& batch, std::byte* pages,
                                        const kv_layout& layout) {
  num_rows_ = batch.tokens.size();
  fill_positions(batch.sequences);
  sharing_.find(batch.sequences, layout.page_tokens);
  const model_config& c = *config_;
  room(x_, num_rows_ * c.width);
  room(qkv_, num_rows_ * qkv_stride());
  room(attended_, num_rows_ * c.heads * c.head_dim);
  const auto kv_of = [&](std::uint32_t layer) { return paged_kv{pages, &layout, layer}; };
  const auto num_layers = static_cast<std::uint32_t>(c.layers.size());
  cut_rows();

  over_rows([&](const compute_context& context, row_block rows, workspace& space) {
    embed(batch.tokens, rows);
    before_attention(context, kv_of(0), batch.sequences, rows, space);
  });
  for (std::uint32_t layer = 0; layer < num_layers; ++layer) {
    const bool last = layer + 1 == num_layers;
    // From the last attention on only the wanted rows matter.
    if (last && batch.output_rows.empty()) return {};
    attend(kv_of(layer), last ? wanted_sequences(batch, layout.page_tokens) : batch.sequences);
    if (last) keep_rows(batch.output_rows);
    over_rows([&](const compute_context& context, row_block rows, workspace& space) {
      after_attention(context, weights_->layers[layer], rows, space);
      if (!last) before_attention(context, kv_of(layer + 1), batch.sequences, rows, space);
    });
  }
  rmsnorm(context_, x_.data(), num_rows_, c.width, weights_->output_norm, c.rms_epsilon, x_.data(),
          c.width);
  return {x_.data(), num_rows_ * c.width};
}

void decoder::drop_scratch() noexcept {
  prepared_ = {};
  for (workspace& space : workspaces_) space = {};
  for (std::vector<float>* buffer : {&x_, &qkv_, &attended_}) *buffer = {};
}

void decoder::project(std::span<const float> hidden, std::size_t num_rows,
                      std::span<float> logits) {
  QUIRE_CHECK(hidden.size() == num_rows * config_->width, "hidden states are (num_rows, width)");
  QUIRE_CHECK(logits.size() == num_rows * config_->vocabulary, "logits are (num_rows, vocabulary)");
  const packed_matrix& output = weights_->output_layer();
  const packed_matrix* const weights[] = {&output};
  prepared_.prepare(context_, hidden.data(), num_rows, config_->width, config_->width, weights);
  const matmul_target target{&output, logits.data(), config_->vocabulary, false};
  expect_layer(context_, weights_->layers.front());  // the next step's
  matmul(context_, prepared_, {&target, 1});
}

std::size_t decoder::qkv_stride() const noexcept {
  return (std::size_t{config_->heads} + 2 * config_->kv_heads) * config_->head_dim;
}

void decoder::cut_rows() {
  blocks_.clear();
  const std::size_t threads = context_.threads->num_threads();
  const block_rows rows = large_weights_ ? with_large_weights : with_cached_weights;
  if (num_rows_ < threads * rows.least) return;
  for (const layer_weights& w : weights_->layers)
    for (const packed_matrix* matrix : w.matrices())
      if (dequantizes_first(context_, *matrix, num_rows_)) return;
  // The same number of rows for each thread, in the order in which an arena deals them out, cut to
  // whole groups of the kernels as far as they go.
  const auto share = [&](std::size_t thread) { return thread * num_rows_ / threads; };
  for (std::size_t thread = 0; thread < threads; ++thread)
    for (std::size_t first = share(thread); first < share(thread + 1); first += rows.most)
      blocks_.push_back({first, std::min(rows.most, share(thread + 1) - first)});
}

template <class Body>
void decoder::over_rows(Body&& body) {
  if (blocks_.empty()) return body(context_, row_block{0, num_rows_}, workspaces_[0]);
  compute_context alone = context_;
  alone.threads = one_thread_.get();
  context_.threads->parallel(blocks_.size(), [&](std::size_t block, std::size_t thread) {
    body(alone, blocks_[block], workspaces_[thread]);
  });
}

void decoder::embed(std::span<const token_id> tokens, row_block rows) {
  const std::size_t width = config_->width;
  for (std::size_t row = rows.first; row < rows.first + rows.count; ++row) {
    const std::span<float> out(x_.data() + row * width, width);
    weights_->embedding.unpack_row(to_index(tokens[row]), out);
    if (config_->embedding_scale != 1.0f)
      for (float& value : out) value *= config_->embedding_scale;
  }
}

void decoder::fill_positions(std::span<const attention_sequence> sequences) {
  positions_.clear();
  std::uint32_t end = 0;
  for (const attention_sequence& sequence : sequences) {
    QUIRE_CHECK(sequence.first_row == positions_.size(), "sequences cover the rows in order");
    for (std::uint32_t i = 0; i < sequence.num_tokens; ++i)
      positions_.push_back(sequence.first_position + i);
    end = std::max(end, sequence.first_position + sequence.num_tokens);
  }
  QUIRE_CHECK(positions_.size() == num_rows_, "sequences cover every row");
  extend_rope(end);
}

// Angles are computed in double: at position 100,000 a float's rounding would be visible.
void decoder::extend_rope(std::uint32_t num_positions) {
  if (num_positions <= num_angles_) return;
  const std::uint32_t until = std::bit_ceil(num_positions);
  const std::size_t half = config_->rope_dim / 2;
  for (std::size_t r = 0; r < angles_.size(); ++r) {
    const rope_config& rope = config_->ropes[r];
    angles_[r].cosines.resize(until * half);
    angles_[r].sines.resize(until * half);
    for (std::size_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / config_->rope_dim;
      const double factor = rope.factors.empty() ? 1.0 : static_cast<double>(rope.factors[i]);
      const double frequency = std::pow(static_cast<double>(rope.base), exponent) /
                               (static_cast<double>(rope.linear_factor) * factor);
      for (std::uint32_t position = num_angles_; position < until; ++position) {
        angles_[r].cosines[position * half + i] =
            static_cast<float>(std::cos(position * frequency));
        angles_[r].sines[position * half + i] = static_cast<float>(std::sin(position * frequency));
      }
    }
  }
  num_angles_ = until;
}

// Normalizes rows, projects them to queries, keys and values, and stores the latter two.
void decoder::before_attention(const compute_context& context, const paged_kv& kv,
                               std::span<const attention_sequence> sequences, row_block rows,
                               workspace& space) {
  const model_config& c = *config_;
  const layer_config& layer = c.layers[kv.layer];
  const layer_weights& w = weights_->layers[kv.layer];
  const std::size_t stride = qkv_stride();
  float* q = qkv_.data() + rows.first * stride;
  float* k = q + std::size_t{c.heads} * c.head_dim;
  float* v = k + std::size_t{c.kv_heads} * c.head_dim;

  const packed_matrix* const weights[] = {&w.q, &w.k, &w.v};
  space.prepared.prepare_rmsnorm(context, x_.data() + rows.first * c.width, rows.count, c.width,
                                 w.attention_norm, c.rms_epsilon,
                                 room(space.normed, rows.count * c.width), weights);
  const matmul_target projections[] = {
      {&w.q, q, stride, false}, {&w.k, k, stride, false}, {&w.v, v, stride, false}};
  expect(context, {&w.attention_out});
  matmul(context, space.prepared, projections);

  if (c.qk_norm) {
    // Heads lie head_dim apart within a row, rows lie `stride` apart: one call per head index.
    for (std::uint32_t h = 0; h < c.heads; ++h)
      rmsnorm(context, q + h * c.head_dim, rows.count, stride, w.q_norm, c.rms_epsilon,
              q + h * c.head_dim, stride);
    for (std::uint32_t h = 0; h < c.kv_heads; ++h)
      rmsnorm(context, k + h * c.head_dim, rows.count, stride, w.k_norm, c.rms_epsilon,
              k + h * c.head_dim, stride);
  }
  // Queries and keys lie side by side, so one call rotates both.
  const rope_angles& angles = angles_[layer.rope];
  rope(context, {angles.cosines, angles.sines, c.rope_dim, c.pairs}, q, rows.count, stride,
       c.heads + c.kv_heads, c.head_dim, std::span(positions_).subspan(rows.first, rows.count));

  space.parts.clear();
  const auto begin = static_cast<std::uint32_t>(rows.first);
  const auto end = static_cast<std::uint32_t>(rows.first + rows.count);
  for (const attention_sequence& sequence : sequences) {
    const std::uint32_t first = std::max(sequence.first_row, begin);
    const std::uint32_t last = std::min(sequence.first_row + sequence.num_tokens, end);
    if (first >= last) continue;
    space.parts.push_back(rows_of(sequence, first, last));
    space.parts.back().first_row -= begin;
  }
  store_kv(context, kv, space.parts, k, v, stride);
}

void decoder::attend(const paged_kv& kv, std::span<const attention_sequence> sequences) {
  const model_config& c = *config_;
  attention(context_, {.kv = kv,
                       .sequences = sequences,
                       .q = qkv_.data(),
                       .q_stride = qkv_stride(),
                       .out = attended_.data(),
                       .out_stride = std::size_t{c.heads} * c.head_dim,
                       .num_heads = c.heads,
                       .scale = c.attention_scale,
                       .sharing = &sharing_,
                       .window = c.layers[kv.layer].window});
}

// The sequences without the rows before their first wanted one, for which sharing_ is found anew.
std::span<const attention_sequence> decoder::wanted_sequences(const token_batch& batch,
                                                              std::uint32_t page_tokens) {
  wanted_.clear();
  bool all = true;
  auto next = batch.output_rows.begin();
  for (const attention_sequence& sequence : batch.sequences) {
    const std::uint32_t end = sequence.first_row + sequence.num_tokens;
    next = std::lower_bound(next, batch.output_rows.end(), sequence.first_row);
    const std::uint32_t first = next == batch.output_rows.end() ? end : *next;
    all &= first == sequence.first_row;
    if (first < end) wanted_.push_back(rows_of(sequence, first, end));
  }
  if (all) return batch.sequences;
  sharing_.find(wanted_, page_tokens);
  return wanted_;
}

// Adds what attention found and then the feed-forward network's answer to the residual stream.
void decoder::after_attention(const compute_context& context, const layer_weights& w,
                              row_block rows, workspace& space) {
  const model_config& c = *config_;
  const std::size_t q_dim = std::size_t{c.heads} * c.head_dim;
  float* x = x_.data() + rows.first * c.width;
  const packed_matrix* const attention_out[] = {&w.attention_out};
  space.prepared.prepare(context, attended_.data() + rows.first * q_dim, rows.count, q_dim, q_dim,
                         attention_out);
  expect(context, {&w.gate, &w.up});
  add_product(context, w.attention_out, w.post_attention_norm, x, rows.count, space);

  float* gate = room(space.gate, rows.count * c.feed_forward);
  float* up = room(space.up, rows.count * c.feed_forward);
  const packed_matrix* const gate_and_up[] = {&w.gate, &w.up};
  space.prepared.prepare_rmsnorm(context, x, rows.count, c.width, w.feed_forward_norm,
                                 c.rms_epsilon, room(space.normed, rows.count * c.width),
                                 gate_and_up);
  const matmul_target projections[] = {{&w.gate, gate, c.feed_forward, false},
                                       {&w.up, up, c.feed_forward, false}};
  expect(context, {&w.down});
  matmul(context, space.prepared, projections);
  gated(context, c.gate, gate, up, rows.count, c.feed_forward, gate);
  const packed_matrix* const down[] = {&w.down};
  space.prepared.prepare(context, gate, rows.count, c.feed_forward, c.feed_forward, down);
  if (&w == &weights_->layers.back())
    expect(context, {&weights_->output_layer()});
  else
    expect_layer(context, *(&w + 1));
  add_product(context, w.down, w.post_feed_forward_norm, x, rows.count, space);
}

// x += weights * prepared, through a norm where the architecture has one there.
void decoder::add_product(const compute_context& context, const packed_matrix& weights,
                          std::span<const float> post_norm, float* x, std::size_t num_rows,
                          workspace& space) {
  const std::size_t width = config_->width;
  if (post_norm.empty()) {
    const matmul_target target{&weights, x, width, true};
    matmul(context, space.prepared, {&target, 1});
    return;
  }
  float* branch = room(space.branch, num_rows * width);
  const matmul_target target{&weights, branch, width, false};
  matmul(context, space.prepared, {&target, 1});
  rmsnorm(context, branch, num_rows, width, post_norm, config_->rms_epsilon, branch, width);
  add(context, x, branch, num_rows * width);
}

void decoder::keep_rows(std::span<const std::uint32_t> rows) {
  const std::size_t width = config_->width;
  const std::size_t q_dim = std::size_t{config_->heads} * config_->head_dim;
  const auto move = [&](std::vector<float>& of, std::size_t to, std::size_t cols) {
    if (rows[to] != to)
      std::memmove(of.data() + to * cols, of.data() + rows[to] * cols, cols * sizeof(float));
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    move(x_, i, width);
    move(attended_, i, q_dim);
  }
  num_rows_ = rows.size();
  cut_rows();
}

}  // namespace quire
