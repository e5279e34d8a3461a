#include "models/architecture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace quire {
namespace {

// Reads `<architecture>.<suffix>` keys and remembers the first thing that is wrong, so that the
// readers below stay lists of facts.
class key_reader {
 public:
  key_reader(const gguf_file& file, std::string architecture)
      : file_(&file), architecture_(std::move(architecture)) {}

  std::uint32_t count(std::string_view suffix, std::uint64_t largest) {
    const auto value = find_uint(suffix);
    if (!value) {
      note(suffix, "is missing");
      return 1;
    }
    return checked(suffix, *value, largest);
  }

  std::uint32_t count_or(std::string_view suffix, std::uint64_t largest, std::uint32_t otherwise) {
    const auto value = find_uint(suffix);
    return value ? checked(suffix, *value, largest) : otherwise;
  }

  float real(std::string_view suffix) {
    const auto value = file_->get_float(key(suffix));
    if (!value || !std::isfinite(*value) || *value <= 0) {
      note(suffix, value ? "is not a positive number" : "is missing");
      return 1.0f;
    }
    return static_cast<float>(*value);
  }

  float real_or(std::string_view suffix, float otherwise) {
    return file_->find(key(suffix)) ? real(suffix) : otherwise;
  }

  std::string text_or(std::string_view suffix, std::string_view otherwise) const {
    return std::string(file_->get_string(key(suffix)).value_or(otherwise));
  }

  void note(std::string_view suffix, std::string_view what) {
    if (problem_.empty()) problem_ = fmt::format("metadata key {} {}", key(suffix), what);
  }

  const std::string& problem() const noexcept { return problem_; }

 private:
  std::string key(std::string_view suffix) const {
    return fmt::format("{}.{}", architecture_, suffix);
  }

  std::optional<std::uint64_t> find_uint(std::string_view suffix) const {
    return file_->get_uint(key(suffix));
  }

  std::uint32_t checked(std::string_view suffix, std::uint64_t value, std::uint64_t largest) {
    if (value == 0 || value > largest) {
      note(suffix, fmt::format("is {}, expected 1 to {}", value, largest));
      return 1;
    }
    return static_cast<std::uint32_t>(value);
  }

  const gguf_file* file_;
  std::string architecture_;
  std::string problem_;
};

// Bounds far above any real model; they keep size arithmetic from overflowing.
constexpr std::uint64_t largest_width = 1u << 17;
constexpr std::uint64_t largest_heads = 1u << 12;
constexpr std::uint64_t largest_layers = 1u << 10;
constexpr std::uint64_t largest_context = 1u << 28;

void read_shape(key_reader& keys, model_config& config) {
  config.width = keys.count("embedding_length", largest_width);
  config.heads = keys.count("attention.head_count", largest_heads);
  config.kv_heads = keys.count_or("attention.head_count_kv", largest_heads, config.heads);
  config.head_dim =
      keys.count_or("attention.key_length", largest_width, config.width / config.heads);
  config.feed_forward = keys.count("feed_forward_length", largest_width * 8);
  config.context = keys.count("context_length", largest_context);
  config.rms_epsilon = keys.real("attention.layer_norm_rms_epsilon");
  config.rope_dim = keys.count_or("rope.dimension_count", largest_width, config.head_dim);
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  config.layers.resize(keys.count("block_count", largest_layers));
  if (keys.count_or("attention.value_length", largest_width, config.head_dim) != config.head_dim)
    keys.note("attention.value_length",
              "differs from the key length, which quire does not support");
  if (config.heads % config.kv_heads != 0)
    keys.note("attention.head_count", "is not a multiple of attention.head_count_kv");
  if (config.head_dim == 0 || config.head_dim % 8 != 0)
    keys.note("attention.key_length", "is not a multiple of 8");
  if (config.rope_dim > config.head_dim || config.rope_dim % 2 != 0)
    keys.note("rope.dimension_count", "is odd or larger than a head");
}

result<void> read_rope_scaling(key_reader& keys, rope_config& rope) {
  const std::string kind = keys.text_or("rope.scaling.type", "none");
  if (kind == "none") return {};
  if (kind != "linear")
    return fail(errc::unsupported,
                fmt::format("rope scaling \"{}\" is not supported (none and linear are)", kind));
  rope.linear_factor = keys.real("rope.scaling.factor");
  return {};
}

result<void> read_rope_factors(const gguf_file& file, const model_config& config,
                               rope_config& rope) {
  const gguf_tensor* tensor = file.find_tensor("rope_freqs.weight");
  if (!tensor) return {};
  if (tensor->type_number != static_cast<std::uint32_t>(tensor_type::f32) ||
      tensor->num_values() != config.rope_dim / 2)
    return fail(errc::invalid_file, "tensor rope_freqs.weight has an unexpected type or size");
  rope.factors.resize(config.rope_dim / 2);
  std::memcpy(rope.factors.data(), file.data(*tensor).data(), rope.factors.size() * sizeof(float));
  for (const float factor : rope.factors)
    if (!std::isfinite(factor) || factor <= 0)
      return fail(errc::invalid_file,
                  "tensor rope_freqs.weight holds a value that is not positive");
  return {};
}

// Llama 1 to 3, SmolLM, Mistral and what else shares their graph (Touvron et al. 2023).
result<void> read_llama(const gguf_file& file, key_reader& keys, model_config& config) {
  rope_config rope;
  rope.base = keys.real_or("rope.freq_base", 10000.0f);
  if (auto done = read_rope_scaling(keys, rope); !done) return done;
  if (auto done = read_rope_factors(file, config, rope); !done) return done;
  config.ropes = {std::move(rope)};
  if (keys.count_or("expert_count", 1u << 16, 1) > 1)
    return fail(errc::unsupported,
                "mixture-of-experts layers (llama.expert_count) are not supported");
  return {};
}

// Gemma 3 (Gemma Team 2025): five layers with a sliding window, then one with full attention.
result<void> read_gemma3(const gguf_file&, key_reader& keys, model_config& config) {
  constexpr std::uint32_t period = 6;
  constexpr float local_base = 10000.0f;
  rope_config global;
  global.base = keys.real_or("rope.freq_base", 1000000.0f);
  if (auto done = read_rope_scaling(keys, global); !done) return done;
  rope_config local;
  local.base = keys.real_or("rope.freq_base_swa", local_base);
  config.ropes = {std::move(global), std::move(local)};
  const std::uint32_t window = keys.count("attention.sliding_window", largest_context);
  for (std::size_t i = 0; i < config.layers.size(); ++i)
    if ((i + 1) % period != 0) config.layers[i] = {window, 1};
  config.pairs = rope_pairs::halves;
  config.gate = gate_function::gelu_tanh;
  config.qk_norm = true;
  config.sandwich_norm = true;
  config.embedding_scale = std::sqrt(static_cast<float>(config.width));
  return {};
}

// One row per architecture: what general.architecture says, and who reads the rest.
struct architecture {
  std::string_view name;
  result<void> (*read)(const gguf_file&, key_reader&, model_config&);
};
constexpr std::array architectures = {architecture{"gemma3", read_gemma3},
                                      architecture{"llama", read_llama}};
constexpr auto names = [] {
  std::array<std::string_view, architectures.size()> out;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = architectures[i].name;
  return out;
}();

}  // namespace

std::span<const std::string_view> supported_architectures() noexcept {
  return names;
}

result<model_config> read_model_config(const gguf_file& file) {
  const auto name = file.get_string("general.architecture");
  if (!name) return fail(errc::invalid_file, "metadata key general.architecture is missing");
  const auto found = std::find_if(architectures.begin(), architectures.end(),
                                  [&](const architecture& row) { return row.name == *name; });
  if (found == architectures.end())
    return fail(errc::unsupported, fmt::format("architecture \"{}\" is not supported (known: {})",
                                               *name, fmt::join(names, ", ")));
  model_config config;
  config.architecture = *name;
  key_reader keys(file, config.architecture);
  read_shape(keys, config);
  if (!keys.problem().empty()) return fail(errc::invalid_file, keys.problem());
  if (auto done = found->read(file, keys, config); !done) return tl::unexpected(done.error());
  if (!keys.problem().empty()) return fail(errc::invalid_file, keys.problem());

  const gguf_tensor* embedding = file.find_tensor("token_embd.weight");
  if (!embedding) return fail(errc::invalid_file, "tensor token_embd.weight is missing");
  if (embedding->num_dims != 2 || embedding->dims[0] != config.width || embedding->dims[1] == 0 ||
      embedding->dims[1] > std::numeric_limits<std::int32_t>::max())
    return fail(errc::invalid_file,
                fmt::format("tensor token_embd.weight is {} x {}, expected {} x vocabulary",
                            embedding->dims[0], embedding->dims[1], config.width));
  config.vocabulary = static_cast<std::uint32_t>(embedding->dims[1]);
  return config;
}

}  // namespace quire
