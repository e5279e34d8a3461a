#include "models/decoder.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "compute/ops/elementwise.hpp"
#include "core/check.hpp"

namespace quire {

decoder::decoder(const compute_context& context, const model_config& config,
                 const model_weights& weights)
    : context_(context), config_(&config), weights_(&weights), angles_(config.ropes.size()) {}

std::span<const float> decoder::forward(const token_batch& batch, std::byte* pages,
                                        const kv_layout& layout) {
  num_rows_ = batch.tokens.size();
  fill_positions(batch.sequences);
  sharing_.find(batch.sequences, layout.page_tokens);
  embed(batch.tokens);
  for (std::uint32_t i = 0; i < config_->layers.size(); ++i) {
    const layer_weights& w = weights_->layers[i];
    attention_block(config_->layers[i], w, {pages, &layout, i}, batch.sequences);
    // After the last attention only the wanted rows matter.
    if (i + 1 == config_->layers.size()) keep_rows(batch.output_rows);
    if (num_rows_ == 0) return {};
    feed_forward_block(w);
  }
  rmsnorm(context_, x_.data(), num_rows_, config_->width, weights_->output_norm,
          config_->rms_epsilon, x_.data(), config_->width);
  return {x_.data(), num_rows_ * config_->width};
}

void decoder::drop_scratch() noexcept {
  prepared_ = {};
  for (std::vector<float>* buffer :
       {&x_, &normed_, &qkv_, &attended_, &gate_, &up_, &branch_})
    *buffer = {};
}

void decoder::project(std::span<const float> hidden, std::size_t num_rows,
                      std::span<float> logits) {
  QUIRE_CHECK(hidden.size() == num_rows * config_->width, "hidden states are (num_rows, width)");
  QUIRE_CHECK(logits.size() == num_rows * config_->vocabulary, "logits are (num_rows, vocabulary)");
  prepared_.prepare(context_, hidden.data(), num_rows, config_->width, config_->width);
  const matmul_target target{&weights_->output_layer(), logits.data(), config_->vocabulary, false};
  matmul(context_, prepared_, {&target, 1});
}

void decoder::embed(std::span<const token_id> tokens) {
  const std::size_t width = config_->width;
  x_.resize(tokens.size() * width);
  for (std::size_t row = 0; row < tokens.size(); ++row) {
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

void decoder::attention_block(const layer_config& layer, const layer_weights& w,
                              const paged_kv& kv, std::span<const attention_sequence> sequences) {
  const model_config& c = *config_;
  const std::size_t q_dim = std::size_t{c.heads} * c.head_dim;
  const std::size_t kv_dim = std::size_t{c.kv_heads} * c.head_dim;
  const std::size_t stride = q_dim + 2 * kv_dim;
  normed_.resize(num_rows_ * c.width);
  qkv_.resize(num_rows_ * stride);
  attended_.resize(num_rows_ * q_dim);
  float* q = qkv_.data();
  float* k = q + q_dim;
  float* v = k + kv_dim;

  prepared_.prepare_rmsnorm(context_, x_.data(), num_rows_, c.width, w.attention_norm,
                            c.rms_epsilon, normed_.data());
  const matmul_target projections[] = {
      {&w.q, q, stride, false}, {&w.k, k, stride, false}, {&w.v, v, stride, false}};
  matmul(context_, prepared_, projections);

  if (c.qk_norm) {
    // Heads lie head_dim apart within a row, rows lie `stride` apart: one call per head index.
    for (std::uint32_t h = 0; h < c.heads; ++h)
      rmsnorm(context_, q + h * c.head_dim, num_rows_, stride, w.q_norm, c.rms_epsilon,
              q + h * c.head_dim, stride);
    for (std::uint32_t h = 0; h < c.kv_heads; ++h)
      rmsnorm(context_, k + h * c.head_dim, num_rows_, stride, w.k_norm, c.rms_epsilon,
              k + h * c.head_dim, stride);
  }
  // Queries and keys lie side by side, so one call rotates both.
  const rope_angles& angles = angles_[layer.rope];
  rope(context_, {angles.cosines, angles.sines, c.rope_dim, c.pairs}, q, num_rows_, stride,
       c.heads + c.kv_heads, c.head_dim, positions_);

  store_kv(context_, kv, sequences, k, v, stride);
  attention(context_, {.kv = kv,
                       .sequences = sequences,
                       .q = q,
                       .q_stride = stride,
                       .out = attended_.data(),
                       .out_stride = q_dim,
                       .num_heads = c.heads,
                       .scale = c.attention_scale,
                       .sharing = &sharing_,
                       .window = layer.window});
  prepared_.prepare(context_, attended_.data(), num_rows_, q_dim, q_dim);
  add_to_residual(w.attention_out, w.post_attention_norm);
}

void decoder::feed_forward_block(const layer_weights& w) {
  const model_config& c = *config_;
  gate_.resize(num_rows_ * c.feed_forward);
  up_.resize(num_rows_ * c.feed_forward);
  prepared_.prepare_rmsnorm(context_, x_.data(), num_rows_, c.width, w.feed_forward_norm,
                            c.rms_epsilon, normed_.data());
  const matmul_target projections[] = {{&w.gate, gate_.data(), c.feed_forward, false},
                                       {&w.up, up_.data(), c.feed_forward, false}};
  matmul(context_, prepared_, projections);
  gated(context_, c.gate, gate_.data(), up_.data(), num_rows_, c.feed_forward, gate_.data());
  prepared_.prepare(context_, gate_.data(), num_rows_, c.feed_forward, c.feed_forward);
  add_to_residual(w.down, w.post_feed_forward_norm);
}

// x += weights * prepared, through a norm where the architecture has one there.
void decoder::add_to_residual(const packed_matrix& weights, std::span<const float> post_norm) {
  const std::size_t width = config_->width;
  if (post_norm.empty()) {
    const matmul_target target{&weights, x_.data(), width, true};
    matmul(context_, prepared_, {&target, 1});
    return;
  }
  branch_.resize(num_rows_ * width);
  const matmul_target target{&weights, branch_.data(), width, false};
  matmul(context_, prepared_, {&target, 1});
  rmsnorm(context_, branch_.data(), num_rows_, width, post_norm, config_->rms_epsilon,
          branch_.data(), width);
  add(context_, x_.data(), branch_.data(), num_rows_ * width);
}

void decoder::keep_rows(std::span<const std::uint32_t> rows) {
  const std::size_t width = config_->width;
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i] != i)
      std::memmove(x_.data() + i * width, x_.data() + rows[i] * width, width * sizeof(float));
  num_rows_ = rows.size();
}

}  // namespace quire
