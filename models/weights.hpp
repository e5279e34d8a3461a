// A model's weights, packed for the kernels in use.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "compute/context.hpp"
#include "compute/packed_matrix.hpp"
#include "core/error.hpp"
#include "models/architecture.hpp"
#include "models/gguf.hpp"

namespace quire {

/// One layer. Norm vectors that the architecture does not have stay empty.
struct layer_weights {
  std::vector<float> attention_norm;          // (width)
  packed_matrix q;                            // (heads * head_dim, width)
  packed_matrix k;                            // (kv_heads * head_dim, width)
  packed_matrix v;                            // (kv_heads * head_dim, width)
  std::vector<float> q_norm;                  // (head_dim)
  std::vector<float> k_norm;                  // (head_dim)
  packed_matrix attention_out;                // (width, heads * head_dim)
  std::vector<float> post_attention_norm;     // (width)
  std::vector<float> feed_forward_norm;       // (width)
  packed_matrix gate;                         // (feed_forward, width)
  packed_matrix up;                           // (feed_forward, width)
  packed_matrix down;                         // (width, feed_forward)
  std::vector<float> post_feed_forward_norm;  // (width)

  std::array<const packed_matrix*, 7> matrices() const noexcept {
    return {&q, &k, &v, &attention_out, &gate, &up, &down};
  }
};

struct model_weights {
  packed_matrix embedding;         // (vocabulary, width)
  packed_matrix output;            // (vocabulary, width); empty when tied to the embedding
  std::vector<float> output_norm;  // (width)
  std::vector<layer_weights> layers;

  const packed_matrix& output_layer() const noexcept {
    return output.rows() > 0 ? output : embedding;
  }
};

/// Called with the share of bytes packed so far, 0 to 1.
using load_progress = std::function<void(double)>;

/// Packs every tensor and drops its file pages. Errors: invalid_file (a tensor is missing or has
/// the wrong shape), unsupported (lists every tensor whose type or role is not supported).
result<model_weights> load_weights(const compute_context& context, const gguf_file& file,
                                   const model_config& config, const load_progress& progress = {},
                                   huge_pages which = huge_pages::large);

}  // namespace quire
