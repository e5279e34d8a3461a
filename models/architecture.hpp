// A decoder-only transformer described as data: one struct for every supported architecture, so the
// forward pass in models/decoder.cpp has no branch on a model's name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compute/ops/elementwise.hpp"
#include "core/error.hpp"
#include "models/gguf.hpp"

namespace quire {

/// Rotary embedding of one kind of layer. angle(position, i) =
/// position / linear_factor * base^(-2 i / dim) / factors[i].
struct rope_config {
  float base = 10000.0f;
  float linear_factor = 1.0f;
  std::vector<float> factors;  ///< (dim / 2); empty: all one
};

/// What differs between layers.
struct layer_config {
  std::uint32_t window = 0;  ///< sliding attention window in tokens; 0: full attention
  std::uint32_t rope = 0;    ///< index into model_config::ropes
};

/// Everything the forward pass needs to know besides the weights.
struct model_config {
  std::string architecture;      ///< as the file names it
  std::uint32_t vocabulary = 0;  ///< rows of the embedding
  std::uint32_t width = 0;       ///< values per token between layers
  std::uint32_t heads = 0;       ///< query heads
  std::uint32_t kv_heads = 0;    ///< key and value heads; divides heads (GQA, Ainslie et al. 2023)
  std::uint32_t head_dim = 0;
  std::uint32_t feed_forward = 0;  ///< width of the gated feed-forward layer
  std::uint32_t context = 0;       ///< tokens the model was trained for
  float rms_epsilon = 1e-5f;
  float embedding_scale = 1.0f;  ///< applied to token embeddings
  float attention_scale = 1.0f;  ///< applied to q k^T
  gate_function gate = gate_function::silu;
  rope_pairs pairs = rope_pairs::adjacent;
  std::uint32_t rope_dim = 0;  ///< rotated values of each head
  bool qk_norm = false;        ///< RMS norm of each query and key head
  bool sandwich_norm = false;  ///< norms after attention and feed-forward, before the residual
  std::vector<rope_config> ropes;
  std::vector<layer_config> layers;
};

/// The names that general.architecture may have.
std::span<const std::string_view> supported_architectures() noexcept;

/// Reads the description of a file's model. Errors: unsupported (architecture, or a rope scaling
/// that is missing), invalid_file (a key is missing or out of range; the message names it).
result<model_config> read_model_config(const gguf_file& file);

}  // namespace quire
