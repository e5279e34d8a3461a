// `quire config check | show | schema`: the configuration without starting anything.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "cli/program.hpp"
#include "config/config.hpp"

namespace quire::cli {
namespace {

struct config_options {
  std::string file;
};

result<int> check(const config_options& options) {
  config_builder builder;
  builder.read_file(options.file);
  auto config = builder.finish();
  if (!config) return tl::unexpected(config.error());
  fmt::print("{}: good\n", options.file);
  return 0;
}

result<int> show(const config_options& options) {
  config_builder builder;
  if (!options.file.empty()) builder.read_file(options.file);
  builder.read_environment(environ);
  auto config = builder.finish();
  if (!config) return tl::unexpected(config.error());
  std::fputs(show_config(*config).c_str(), stdout);
  return 0;
}

result<int> print_schema(const config_options&) {
  std::fputs(config_schema().c_str(), stdout);
  return 0;
}

}  // namespace

void add_config(program& quire) {
  CLI::App* config =
      quire.app.add_subcommand("config", "Check, show or describe the configuration");
  config->require_subcommand(1);
  auto [check_command, check_options] =
      quire.add<config_options>("check", "Check a YAML file; prints every problem", &check, config);
  check_command->add_option("file", check_options->file, "YAML file")->required();
  auto [show_command, show_options] = quire.add<config_options>(
      "show", "Print the resolved configuration and where each value came from", &show, config);
  show_command->add_option("-c,--config", show_options->file, "YAML file");
  quire.add<config_options>("schema", "Print a JSON Schema of the YAML file", &print_schema,
                            config);
}

}  // namespace quire::cli
