// `quire kv replay`: the paged store from outside.
#include <fstream>
#include <iostream>
#include <string>

#include "cli/program.hpp"
#include "memory/replay.hpp"

namespace quire::cli {
namespace {

struct replay_options {
  std::string file;
};

result<int> replay_trace(const replay_options& options) {
  std::ifstream file;
  if (options.file != "-") {
    file.open(options.file);
    if (!file) return fail(errc::io_error, options.file + ": cannot be opened");
  }
  auto replayed = quire::replay(options.file == "-" ? std::cin : file, std::cout);
  if (!replayed) return tl::unexpected(replayed.error());
  return 0;
}

}  // namespace

void add_kv(program& quire) {
  CLI::App* kv = quire.app.add_subcommand("kv", "Work with the paged KV store");
  kv->require_subcommand(1);
  auto [command, options] = quire.add<replay_options>(
      "replay", "Replay a trace of store operations, one JSON line each", &replay_trace, kv);
  command->add_option("file", options->file, "Trace, - for standard input")->required();
}

}  // namespace quire::cli
