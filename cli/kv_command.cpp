// `quire kv replay`: the paged store from outside.
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>

#include "cli/kv_replay.hpp"
#include "cli/program.hpp"

namespace quire::cli {
namespace {

struct replay_options {
  std::string file;
};

// Whoever drives the replay through a pipe waits for each line.
void print(const nlohmann::ordered_json& answer) {
  fmt::print("{}\n", answer.dump());
  std::fflush(stdout);
}

result<int> replay_lines(std::istream& in) {
  std::optional<kv_replay> replay;
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto at_line = [&](const error& why) {
      return fail(errc::invalid_argument, fmt::format("line {}: {}", number, why.message));
    };
    if (!replay) {
      auto made = kv_replay::make(line);
      if (!made) return at_line(made.error());
      replay = std::move(*made);
      print(replay->description());
      continue;
    }
    auto answer = replay->perform(line);
    if (!answer) return at_line(answer.error());
    print(*answer);
  }
  if (!replay)
    return fail(errc::invalid_argument, "the trace is empty; its first line is the store");
  return 0;
}

result<int> replay(const replay_options& options) {
  if (options.file == "-") return replay_lines(std::cin);
  std::ifstream in(options.file);
  if (!in) return fail(errc::io_error, options.file + ": cannot be opened");
  return replay_lines(in);
}

}  // namespace

void add_kv(program& quire) {
  CLI::App* kv = quire.app.add_subcommand("kv", "Work with the paged KV store");
  kv->require_subcommand(1);
  auto [command, options] = quire.add<replay_options>(
      "replay", "Replay a trace of store operations, one JSON line each", &replay, kv);
  command->add_option("file", options->file, "Trace, - for standard input")->required();
}

}  // namespace quire::cli
