// The commands of the `quire` program. Each file adds its own to the parser; main runs the chosen
// one.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "core/error.hpp"

namespace quire::cli {

/// The parser, and what the command line chose.
struct program {
  CLI::App app;
  /// Runs the chosen command and returns the exit code; empty until parsing has chosen one.
  std::function<result<int>()> chosen;

  /// Adds a command whose options live in a T and which runs as `int or error = action(options)`.
  /// Returns the parser of the command and its options, for the caller to describe.
  template <class T, class Action>
  std::pair<CLI::App*, T*> add(const char* name, const char* description, Action action,
                               CLI::App* parent = nullptr) {
    CLI::App* command = (parent != nullptr ? parent : &app)->add_subcommand(name, description);
    auto options = std::make_shared<T>();
    command->callback([this, options, action] {
      chosen = [options, action]() -> result<int> { return action(*options); };
    });
    return {command, options.get()};
  }
};

void add_run(program& quire);
void add_chat(program& quire);
void add_serve(program& quire);
void add_bench(program& quire);
void add_perplexity(program& quire);
void add_tokenize(program& quire);
void add_detokenize(program& quire);
void add_template(program& quire);
void add_inspect(program& quire);
void add_kv(program& quire);
void add_config(program& quire);
void add_completion(program& quire);

}  // namespace quire::cli
