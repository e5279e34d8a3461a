// engine::load: from a file and options to running actors.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "actors/engine.hpp"
#include "actors/forward_executor.hpp"
#include "models/chat_template.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire {
namespace {

constexpr std::uint64_t bytes_per_mib = 1u << 20;

huge_pages huge_pages_of(const compute_options& options) {
  if (options.huge_pages == "on") return huge_pages::always;
  return options.huge_pages == "off" ? huge_pages::never : huge_pages::large;
}

result<std::uint32_t> pool_pages(const kv_options& options, const kv_layout& layout) {
  if (options.pages > 0) return options.pages;
  const std::uint64_t pages = options.max_mib * bytes_per_mib / layout.page_bytes;
  if (pages == 0)
    return fail(errc::invalid_argument,
                fmt::format("kv.max_mib: {} MiB hold no page of {} bytes; raise it",
                            options.max_mib, layout.page_bytes));
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(pages, 1u << 30));
}

// The type that holds most of the weights, as people name quantizations.
std::string weights_type(const gguf_file& file) {
  std::map<std::uint32_t, std::uint64_t> bytes;
  for (const gguf_tensor& tensor : file.tensors())
    if (tensor.num_dims > 1 && tensor.name != "token_embd.weight")
      bytes[tensor.type_number] += tensor.size_bytes;
  std::uint32_t best = 0;
  for (const auto& [type, size] : bytes)
    if (size > bytes[best]) best = type;
  const tensor_type_traits* traits = find_tensor_type(best);
  return traits ? std::string(traits->name) : "unknown";
}

std::uint64_t num_parameters(const gguf_file& file) {
  std::uint64_t sum = 0;
  for (const gguf_tensor& tensor : file.tensors()) sum += tensor.num_values();
  return sum;
}

std::string model_id(const std::filesystem::path& path, const model_options& options) {
  return options.alias.empty() ? path.stem().string() : options.alias.front();
}

model_card make_card(const gguf_file& file, const model_config& config,
                     const engine_options& options) {
  model_card card;
  card.id = model_id(options.model.path, options.model);
  card.architecture = config.architecture;
  card.weights_type = weights_type(file);
  card.num_parameters = num_parameters(file);
  card.file_bytes = file.file_bytes();
  card.context_tokens = options.model.context_tokens > 0
                            ? std::min(options.model.context_tokens, config.context)
                            : config.context;
  card.vocabulary_size = config.vocabulary;
  return card;
}

}  // namespace

result<std::unique_ptr<engine>> engine::load(const engine_options& options) {
  auto file = gguf_file::open(options.model.path);
  if (!file) return tl::unexpected(file.error());
  auto config = read_model_config(*file);
  if (!config) return tl::unexpected(config.error());
  auto vocabulary = load_tokenizer(*file);
  if (!vocabulary) return tl::unexpected(vocabulary.error());
  if ((*vocabulary)->vocabulary_size() > config->vocabulary)
    return fail(errc::invalid_file,
                fmt::format("the tokenizer has {} tokens but the embedding only {}",
                            (*vocabulary)->vocabulary_size(), config->vocabulary));
  auto kernels = select_kernels(options.compute.isa);
  if (!kernels) return tl::unexpected(kernels.error());
  auto layout = kv_layout::make(static_cast<std::uint32_t>(config->layers.size()), config->kv_heads,
                                config->head_dim, options.kv.page_tokens, options.kv.type_k,
                                options.kv.type_v);
  if (!layout) return tl::unexpected(layout.error());
  auto num_pages = pool_pages(options.kv, *layout);
  if (!num_pages) return tl::unexpected(num_pages.error());
  auto pool = page_pool::make(*layout, *num_pages, huge_pages_of(options.compute));
  if (!pool) return tl::unexpected(pool.error());

  parts given;
  given.card = make_card(*file, *config, options);
  if (const auto source = file->get_string("tokenizer.chat_template")) {
    auto parsed = chat_template::parse(*source);
    if (!parsed)
      return fail(parsed.error().code,
                  fmt::format("tokenizer.chat_template: {}", parsed.error().message));
    given.chat = std::make_shared<const chat_template>(std::move(*parsed));
    given.card.has_chat_template = true;
  }
  auto model = std::make_unique<loaded_model>();
  model->threads = std::make_unique<arena>(options.compute.threads);
  model->context = {*kernels, model->threads.get(), options.compute.batch_invariant};
  model->config = std::move(*config);
  auto weights =
      load_weights(model->context, *file, model->config, {}, huge_pages_of(options.compute));
  if (!weights) return tl::unexpected(weights.error());
  model->weights = std::move(*weights);
  given.card.isa = isa_name(**kernels);
  given.card.threads = static_cast<std::uint32_t>(model->threads->num_threads());
  given.vocabulary = std::move(*vocabulary);
  given.layout = *layout;
  given.num_pages = *num_pages;
  given.executor = make_forward_executor(std::move(model), std::move(*pool), options.kv.park_dir);
  return start(options, std::move(given));
}

}  // namespace quire
