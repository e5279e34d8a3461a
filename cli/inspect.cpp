// `quire inspect`: what a model file holds, what of it is supported, and what is missing; or what
// the processor offers to compute with.
#include "models/inspect.hpp"

#include <fmt/format.h>

#include <string>

#include "cli/inspect_cpu.hpp"
#include "cli/model_path.hpp"
#include "cli/program.hpp"
#include "models/gguf.hpp"

namespace quire::cli {
namespace {

struct inspect_options {
  std::string model;
  std::string isa = "auto";
  bool cpu = false;
  bool as_json = false;
};

void print_json(const std::string& path, const gguf_file& file, const model_report& report) {
  nlohmann::ordered_json line{{"file", path}};
  line.update(to_json(file, report));
  fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

result<int> inspect(const inspect_options& options) {
  if (options.cpu) return inspect_cpu(options.isa, options.as_json);
  const auto path = resolve_model(options.model);
  if (!path) return tl::unexpected(path.error());
  const auto file = gguf_file::open(*path);
  if (!file) return tl::unexpected(file.error());
  const auto report = inspect_model(*file);
  if (options.as_json) {
    print_json(path->string(), *file, report);
  } else {
    fmt::print("{}\n{}", path->string(), to_text(*file, report));
  }
  return 0;
}

}  // namespace

void add_inspect(program& quire) {
  auto [command, options] =
      quire.add<inspect_options>("inspect",
                                 "Print a model file's metadata, tensors, and what of it is "
                                 "supported, or the processor's features",
                                 &inspect);
  command->add_option("model", options->model,
                      "GGUF file or model name (default: the default model)");
  command->add_flag(
      "--cpu", options->cpu,
      "Instead of a model, print the processor's features and the kernels chosen for it");
  command->add_option("--isa", options->isa,
                      "With --cpu: the instruction set to print the kernels of");
  command->add_flag("--json", options->as_json, "Print one JSON object");
}

}  // namespace quire::cli
