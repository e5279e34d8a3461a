// The forward pass of a decoder-only transformer over paged keys and values.
//
// One batch mixes sequences in prefill and in decode; every sequence's keys and values live in
// pages that its block table names. The decoder owns scratch only: no sequence state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "compute/context.hpp"
#include "compute/ops/attention.hpp"
#include "compute/ops/matmul.hpp"
#include "compute/ops/shared_prefix.hpp"
#include "core/ids.hpp"
#include "models/architecture.hpp"
#include "models/weights.hpp"

namespace quire {

/// The rows of one step.
struct token_batch {
  std::span<const token_id> tokens;               ///< (num_rows), each below the vocabulary
  std::span<const attention_sequence> sequences;  ///< cover the rows in order, without gaps
  std::span<const std::uint32_t> output_rows;     ///< rows whose hidden state is wanted, ascending
};

/// Runs one model's graph. Not thread-safe; parallel inside through the context's arena.
class decoder {
 public:
  /// `config` and `weights` outlive the decoder.
  decoder(const compute_context& context, const model_config& config, const model_weights& weights);

  /// Runs all layers, writes keys and values of the batch's tokens into `pages` (laid out as
  /// `layout`), and returns the normalized hidden states of the output rows,
  /// (output_rows.size(), width), valid until the next call.
  std::span<const float> forward(const token_batch& batch, std::byte* pages,
                                 const kv_layout& layout);

  /// Frees the buffers, which grow with the largest batch so far; the next batch makes its own.
  void drop_scratch() noexcept;

  /// Projects hidden states (num_rows, width) to logits (num_rows, vocabulary).
  void project(std::span<const float> hidden, std::size_t num_rows, std::span<float> logits);

 private:
  /// What a thread needs to take rows through the products of a layer. Grows, and stays.
  struct workspace {
    activations prepared;                   // input of the next product
    std::vector<float> normed;              // (rows, width)
    std::vector<float> gate;                // (rows, feed_forward)
    std::vector<float> up;                  // (rows, feed_forward)
    std::vector<float> branch;              // (rows, width), before a sandwich norm
    std::vector<attention_sequence> parts;  // what these rows are of the step's sequences
  };
  struct row_block {
    std::size_t first = 0;
    std::size_t count = 0;
  };

  std::size_t qkv_stride() const noexcept;
  /// Makes blocks_ of num_rows_: none when all threads should share the weights instead.
  void cut_rows();
  /// Calls body(context, rows, workspace) for blocks that cover the rows: for each on one thread
  /// when there are enough, else once, with all threads.
  template <class Body>
  void over_rows(Body&& body);

  void embed(std::span<const token_id> tokens, row_block rows);
  void fill_positions(std::span<const attention_sequence> sequences);
  void extend_rope(std::uint32_t num_positions);
  void before_attention(const compute_context& context, const paged_kv& kv,
                        std::span<const attention_sequence> sequences, row_block rows,
                        workspace& space);
  void attend(const paged_kv& kv, std::span<const attention_sequence> sequences);
  std::span<const attention_sequence> wanted_sequences(const token_batch& batch,
                                                       std::uint32_t page_tokens);
  void after_attention(const compute_context& context, const layer_weights& w, row_block rows,
                       workspace& space);
  void add_product(const compute_context& context, const packed_matrix& weights,
                   std::span<const float> post_norm, float* x, std::size_t num_rows,
                   workspace& space);
  void keep_rows(std::span<const std::uint32_t> rows);

  compute_context context_;
  std::unique_ptr<arena> one_thread_;  // where a thread's own block is computed
  const model_config* config_;
  const model_weights* weights_;
  bool large_weights_;                      // a layer's do not stay in a cache
  std::size_t num_rows_ = 0;                // rows in x_ now
  prefix_sharing sharing_;                  // of the sequences that attend
  std::vector<attention_sequence> wanted_;  // those that attend in the last layer
  activations prepared_;                    // input of the output layer
  std::vector<workspace> workspaces_;       // one per thread
  std::vector<row_block> blocks_;
  std::vector<float> x_;                  // (num_rows, width): the residual stream
  std::vector<float> qkv_;                // (num_rows, q_dim + 2 kv_dim)
  std::vector<float> attended_;           // (num_rows, q_dim)
  std::vector<std::uint32_t> positions_;  // (num_rows)
  struct rope_angles {
    std::vector<float> cosines;  // (num_positions, rope_dim / 2)
    std::vector<float> sines;
  };
  std::vector<rope_angles> angles_;  // one per model_config::ropes
  std::uint32_t num_angles_ = 0;     // positions in angles_
};

}  // namespace quire
