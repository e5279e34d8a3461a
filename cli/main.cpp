// The `quire` program: results on standard output, everything else on standard error. Exit code 0:
// done, 1: failed, 2: bad usage or bad input.
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "cli/program.hpp"

namespace {

using quire::cli::program;

void add_commands(program& commands) {
  quire::cli::add_run(commands);
  quire::cli::add_chat(commands);
  quire::cli::add_serve(commands);
  quire::cli::add_bench(commands);
  quire::cli::add_perplexity(commands);
  quire::cli::add_tokenize(commands);
  quire::cli::add_detokenize(commands);
  quire::cli::add_template(commands);
  quire::cli::add_inspect(commands);
  quire::cli::add_kv(commands);
  quire::cli::add_config(commands);
  quire::cli::add_completion(commands);
}

void report(const quire::error& why) {
  // Configuration problems begin with file:line:column, which editors look for at the line's start.
  if (why.code != quire::errc::invalid_config) std::cerr << "quire: ";
  std::cerr << why.message << '\n';
}

int run(int argc, char** argv) {
  program commands;
  commands.app.description("Serves language models on CPUs to many users at once.");
  commands.app.name("quire");
  commands.app.set_version_flag("--version", "quire " QUIRE_VERSION);
  commands.app.require_subcommand(1);
  commands.app.set_help_all_flag("--help-all", "Print the help of every command");
  add_commands(commands);
  try {
    commands.app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version
    return commands.app.exit(wanted, std::cout, std::cerr);
  } catch (const CLI::ParseError& problem) {
    const std::vector<std::string> unknown = commands.app.remaining();
    if (!unknown.empty() && commands.app.get_subcommands().empty())
      std::cerr << "quire: no command '" << unknown.front() << "'; `quire --help` lists them\n";
    else
      commands.app.exit(problem, std::cout, std::cerr);
    return 2;
  }
  auto code = commands.chosen();
  if (!code) {
    std::fflush(stdout);
    report(code.error());
    return quire::exit_code(code.error().code);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::cerr << "quire: cannot write to standard output\n";
    return 1;
  }
  return *code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::cerr << "quire: out of memory\n";
  } catch (const std::exception& problem) {
    std::cerr << "quire: unexpected failure: " << problem.what() << '\n';
  }
  return 1;
}
