#include "cli/engine_flags.hpp"

#include <fmt/format.h>

#include <utility>

#include "cli/model_path.hpp"

namespace quire::cli {

void engine_flags::add_to(CLI::App& command) {
  command.add_option("-m,--model", model, "GGUF file or model name");
  command
      .add_option("--kv", kv,
                  "Type of the KV store: f32, f16, q8, q4 (keys stay q8), or K/V as in q4/q4")
      ->capture_default_str();
  command.add_option("--kv-mib", kv_mib, "Largest size of the KV store in MiB (0: the default)");
  command.add_option("--threads", threads, "Compute threads (0: one per core)");
  command
      .add_option("--isa", isa,
                  "Instruction set: auto, scalar, avx2, avx_vnni, avx512_vnni, avx512_bf16, amx")
      ->capture_default_str();
  command.add_flag("--batch-invariant", batch_invariant,
                   "Bit-identical logits whatever shares the batch, at some cost in speed");
  command.add_option("--context", context_tokens,
                     "Longest sequence in tokens (0: the model's own limit)");
}

result<engine_options> engine_flags::to_options() const {
  engine_options options;
  options.model.path = model;
  options.model.context_tokens = context_tokens;
  options.compute.threads = threads;
  options.compute.isa = isa;
  options.compute.batch_invariant = batch_invariant;
  const auto types = parse_kv_types(kv);
  if (!types)
    return fail(
        errc::invalid_argument,
        fmt::format("--kv {}: not one of f32, f16, q8, q4, or two of them as in q8/q4", kv));
  options.kv.type_k = types->k;
  options.kv.type_v = types->v;
  if (kv_mib != 0) {
    options.kv.max_mib = kv_mib;
    options.kv.min_mib = std::min(options.kv.min_mib, kv_mib);
  }
  return options;
}

result<std::unique_ptr<engine>> load_engine(engine_options options) {
  auto path = resolve_model(options.model.path);
  if (!path) return tl::unexpected(path.error());
  options.model.path = path->string();
  return engine::load(options);
}

}  // namespace quire::cli
