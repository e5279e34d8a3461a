#include "models/weights.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

namespace quire {
namespace {

std::string shape_of(const gguf_tensor& tensor) {
  return fmt::format("{}",
                     fmt::join(tensor.dims.begin(), tensor.dims.begin() + tensor.num_dims, " x "));
}

// Takes tensors out of a file one by one and keeps account, so that what nobody took is noticed.
class tensor_loader {
 public:
  tensor_loader(const compute_context& context, const gguf_file& file,
                const load_progress& progress, huge_pages which)
      : context_(&context),
        memory_(weight_memory::usual_region_bytes, which),
        file_(&file),
        progress_(&progress) {
    for (const gguf_tensor& tensor : file.tensors()) total_bytes_ += tensor.size_bytes;
  }

  bool has(std::string_view name) const { return file_->find_tensor(name) != nullptr; }

  // A norm: one dimension, f32.
  void vector(const std::string& name, std::uint64_t size, std::vector<float>& out) {
    const gguf_tensor* tensor = find(name, size, 1);
    if (!tensor) return;
    if (tensor->type_number != static_cast<std::uint32_t>(tensor_type::f32)) {
      note(errc::unsupported, fmt::format("tensor {} must be F32", name));
      return;
    }
    out.resize(size);
    std::memcpy(out.data(), file_->data(*tensor).data(), size * sizeof(float));
    taken(*tensor);
  }

  void matrix(const std::string& name, std::uint64_t rows, std::uint64_t cols, packed_matrix& out) {
    const gguf_tensor* tensor = find(name, cols, rows);
    if (!tensor || !problem_.message.empty()) return;
    auto packed = packed_matrix::pack(*context_, static_cast<tensor_type>(tensor->type_number),
                                      file_->data(*tensor), static_cast<std::size_t>(rows),
                                      static_cast<std::size_t>(cols), memory_);
    if (!packed) {
      note(packed.error().code, fmt::format("tensor {}: {}", name, packed.error().message));
      return;
    }
    out = std::move(*packed);
    taken(*tensor);
  }

  // A tensor that read_model_config has used already.
  void used_elsewhere(std::string_view name) { taken_.insert(name); }

  result<void> finish() {
    if (!problem_.message.empty()) return tl::unexpected(problem_);
    std::vector<std::string_view> left;
    for (const gguf_tensor& tensor : file_->tensors())
      if (!taken_.contains(tensor.name)) left.push_back(tensor.name);
    if (left.empty()) return {};
    const auto shown = std::min<std::ptrdiff_t>(std::ssize(left), 8);
    return fail(
        errc::unsupported,
        fmt::format("the file has {} tensors that this architecture does not use here: {}{}",
                    left.size(), fmt::join(left.begin(), left.begin() + shown, ", "),
                    std::ssize(left) > shown ? ", ..." : ""));
  }

 private:
  const gguf_tensor* find(const std::string& name, std::uint64_t dim0, std::uint64_t dim1) {
    const gguf_tensor* tensor = file_->find_tensor(name);
    if (!tensor) {
      note(errc::invalid_file, fmt::format("tensor {} is missing", name));
      return nullptr;
    }
    const tensor_type_traits* traits = find_tensor_type(tensor->type_number);
    if (!traits || !traits->supported) {
      note(errc::unsupported, fmt::format("tensor {} has type {}, which is not supported", name,
                                          traits ? std::string(traits->name)
                                                 : fmt::format("number {}", tensor->type_number)));
      return nullptr;
    }
    if (tensor->dims[0] != dim0 || tensor->dims[1] != dim1 || tensor->num_values() != dim0 * dim1) {
      note(errc::invalid_file,
           fmt::format("tensor {} is {}, expected {} x {}", name, shape_of(*tensor), dim0, dim1));
      return nullptr;
    }
    return tensor;
  }

  void taken(const gguf_tensor& tensor) {
    taken_.insert(tensor.name);
    file_->drop(tensor);
    done_bytes_ += tensor.size_bytes;
    if (*progress_ && total_bytes_ > 0)
      (*progress_)(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
  }

  void note(errc code, std::string message) {
    if (problem_.message.empty())
      problem_ = {code, std::move(message), {}};
    else if (++further_ <= 8)
      problem_.message += "; " + message;
  }

  const compute_context* context_;
  weight_memory memory_;
  const gguf_file* file_;
  const load_progress* progress_;
  std::unordered_set<std::string_view> taken_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t done_bytes_ = 0;
  error problem_;
  int further_ = 0;
};

void load_layer(tensor_loader& load, const model_config& config, std::size_t index,
                layer_weights& out) {
  const auto name = [&](std::string_view part) {
    return fmt::format("blk.{}.{}.weight", index, part);
  };
  const std::uint64_t q_dim = std::uint64_t{config.heads} * config.head_dim;
  const std::uint64_t kv_dim = std::uint64_t{config.kv_heads} * config.head_dim;
  load.vector(name("attn_norm"), config.width, out.attention_norm);
  load.matrix(name("attn_q"), q_dim, config.width, out.q);
  load.matrix(name("attn_k"), kv_dim, config.width, out.k);
  load.matrix(name("attn_v"), kv_dim, config.width, out.v);
  load.matrix(name("attn_output"), config.width, q_dim, out.attention_out);
  load.vector(name("ffn_norm"), config.width, out.feed_forward_norm);
  load.matrix(name("ffn_gate"), config.feed_forward, config.width, out.gate);
  load.matrix(name("ffn_up"), config.feed_forward, config.width, out.up);
  load.matrix(name("ffn_down"), config.width, config.feed_forward, out.down);
  if (config.qk_norm) {
    load.vector(name("attn_q_norm"), config.head_dim, out.q_norm);
    load.vector(name("attn_k_norm"), config.head_dim, out.k_norm);
  }
  if (config.sandwich_norm) {
    load.vector(name("post_attention_norm"), config.width, out.post_attention_norm);
    load.vector(name("post_ffw_norm"), config.width, out.post_feed_forward_norm);
  }
}

}  // namespace

result<model_weights> load_weights(const compute_context& context, const gguf_file& file,
                                   const model_config& config, const load_progress& progress,
                                   huge_pages which) {
  tensor_loader load(context, file, progress, which);
  model_weights weights;
  load.used_elsewhere("rope_freqs.weight");
  load.matrix("token_embd.weight", config.vocabulary, config.width, weights.embedding);
  load.vector("output_norm.weight", config.width, weights.output_norm);
  if (load.has("output.weight"))
    load.matrix("output.weight", config.vocabulary, config.width, weights.output);
  weights.layers.resize(config.layers.size());
  for (std::size_t i = 0; i < weights.layers.size(); ++i)
    load_layer(load, config, i, weights.layers[i]);
  if (auto done = load.finish(); !done) return tl::unexpected(done.error());
  return weights;
}

}  // namespace quire
