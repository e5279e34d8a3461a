// `quire completion bash|zsh`: a completion script made from the parser itself, so it cannot drift.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/program.hpp"

namespace quire::cli {
namespace {

struct completion_options {
  std::string shell = "bash";
  const CLI::App* app = nullptr;
};

/// All words that may follow a command: its subcommands and long flags.
std::string words_after(const CLI::App& command) {
  std::vector<std::string> words;
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; }))
    words.push_back(sub->get_name());
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  std::ranges::sort(words);
  return fmt::format("{}", fmt::join(words, " "));
}

/// One shell `case` branch per command, keyed by the words typed before.
void add_cases(const CLI::App& command, const std::string& typed, std::string& cases) {
  cases += fmt::format("    '{}') words='{}' ;;\n", typed, words_after(command));
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; }))
    add_cases(*sub, typed + " " + sub->get_name(), cases);
}

result<int> print_completion(const completion_options& options) {
  std::string cases;
  add_cases(*options.app, "quire", cases);
  const char* const zsh_prelude =
      options.shell == "zsh" ? "autoload -U bashcompinit; bashcompinit\n" : "";
  fmt::print(R"({}_quire() {{
  local typed=quire word words=
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    [[ $word = -* ]] && break
    typed="$typed $word"
  done
  case $typed in
{}    *) words= ;;
  esac
  COMPREPLY=()
  [[ -n $words ]] && COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _quire quire
)",
             zsh_prelude, cases);
  return 0;
}

}  // namespace

void add_completion(program& quire) {
  auto [command, options] = quire.add<completion_options>(
      "completion", "Print a shell completion script: source <(quire completion bash)",
      &print_completion);
  options->app = &quire.app;
  command->add_option("shell", options->shell, "bash or zsh")
      ->check(CLI::IsMember({"bash", "zsh"}));
}

}  // namespace quire::cli
