// `quire perplexity`: how well the model predicts a text, by the method of llama.cpp's tool, so
// that figures compare: the text is tokenized once, cut into windows of c tokens without overlap,
// each window begins with BOS where the model adds one, and the second half of each window is
// scored.
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/engine.hpp"
#include "cli/engine_flags.hpp"
#include "cli/event_queue.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/program.hpp"
#include "models/tokenizer.hpp"

namespace quire::cli {
namespace {

struct perplexity_options {
  engine_flags engine;
  std::string file;
  std::string argmax_file;
  std::uint32_t window = 512;
  bool json = false;
};

/// Runs one window through the engine and returns the scores of tokens [first, window).
result<std::vector<prompt_logprobs_event::entry>> score(engine& model, interrupt_watch& interrupts,
                                                        std::vector<token_id> tokens,
                                                        std::uint32_t first) {
  const std::size_t expected = tokens.size() - first;
  generation_request request;
  request.prompt = std::move(tokens);
  request.prompt_logprobs_from = first;
  request.score_only = true;
  request.use_prefix_cache = false;
  auto events = std::make_shared<event_queue>();
  const request_id id = model.submit(std::move(request), events);
  interrupts.on_signal([&] { model.cancel(id); });
  std::vector<prompt_logprobs_event::entry> entries;
  std::optional<error> why;
  for (bool running = true; running;) {
    generation_event event = events->next();
    if (const auto* scores = std::get_if<prompt_logprobs_event>(&event)) {
      entries.insert(entries.end(), scores->entries.begin(), scores->entries.end());
    } else if (const auto* finished = std::get_if<finished_event>(&event)) {
      if (finished->reason == finish_reason::cancelled)
        why = error{errc::cancelled, "interrupted", {}};
      running = false;
    } else if (auto* failed = std::get_if<failed_event>(&event)) {
      why = std::move(failed->why);
      running = false;
    }
  }
  interrupts.on_signal(nullptr);
  if (why) return tl::unexpected(std::move(*why));
  if (entries.size() != expected)
    return fail(errc::internal,
                fmt::format("the engine scored {} of {} tokens", entries.size(), expected));
  return entries;
}

/// Appends one line: the position of the first scored token and the model's choice at each.
void write_argmax(std::ofstream& out, std::size_t chunk, std::uint32_t first,
                  const std::vector<prompt_logprobs_event::entry>& entries) {
  std::vector<std::uint32_t> best;
  for (const auto& entry : entries) best.push_back(to_index(entry.best));
  const nlohmann::ordered_json line{{"chunk", chunk}, {"first_position", first}, {"argmax", best}};
  out << line.dump() << '\n';
}

void show_progress(std::size_t done, std::size_t chunks, double ppl) {
  if (isatty(STDERR_FILENO) == 0) return;
  fmt::print(stderr, "\r\033[K{} of {} windows, {:.4f}", done, chunks, ppl);
  if (done == chunks) fmt::print(stderr, "\r\033[K");
}

result<std::vector<token_id>> read_tokens(const perplexity_options& options, const engine& model) {
  auto text = read_input(options.file);
  if (!text) return tl::unexpected(text.error());
  auto tokens = model.vocabulary().encode(*text, {.add_special = true, .parse_special = false});
  if (tokens.size() < options.window)
    return fail(errc::invalid_argument,
                fmt::format("{}: {} tokens are less than one window of {}; give more text or a "
                            "smaller -c",
                            options.file, tokens.size(), options.window));
  return tokens;
}

result<int> perplexity(const perplexity_options& options) {
  auto engine_options = options.engine.to_options();
  if (!engine_options) return tl::unexpected(engine_options.error());
  interrupt_watch interrupts;
  auto loaded = load_engine(*engine_options);
  if (!loaded) return tl::unexpected(loaded.error());
  engine& model = **loaded;
  auto tokens = read_tokens(options, model);
  if (!tokens) return tl::unexpected(tokens.error());
  std::ofstream argmax;
  if (!options.argmax_file.empty()) {
    argmax.open(options.argmax_file);
    if (!argmax) return fail(errc::io_error, options.argmax_file + ": cannot be written");
  }

  const tokenizer& vocabulary = model.vocabulary();
  const std::uint32_t window = options.window;
  const std::uint32_t first = window / 2 + 1;
  const std::size_t chunks = tokens->size() / window;
  double nll = 0;
  std::size_t scored = 0;
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    const auto begin = tokens->begin() + static_cast<std::ptrdiff_t>(chunk * window);
    std::vector<token_id> part(begin, begin + window);
    if (vocabulary.adds_bos() && vocabulary.bos()) part.front() = *vocabulary.bos();
    auto entries = score(model, interrupts, std::move(part), first);
    if (!entries) return tl::unexpected(entries.error());
    for (const auto& entry : *entries) nll -= static_cast<double>(entry.logprob);
    scored += entries->size();
    if (argmax.is_open()) write_argmax(argmax, chunk, first, *entries);
    show_progress(chunk + 1, chunks, std::exp(nll / static_cast<double>(scored)));
  }
  const double ppl = std::exp(nll / static_cast<double>(scored));
  if (options.json) {
    const nlohmann::ordered_json line{{"ppl", ppl}, {"tokens", scored}, {"chunks", chunks}};
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print("perplexity {:.4f} over {} tokens in {} windows of {}\n", ppl, scored, chunks,
               window);
  }
  return 0;
}

}  // namespace

void add_perplexity(program& quire) {
  auto [command, options] = quire.add<perplexity_options>(
      "perplexity", "Measure how well a model predicts a text (llama.cpp's method)", &perplexity);
  options->engine.kv = "f16";
  options->engine.add_to(*command);
  command->add_option("-f,--file", options->file, "Text, - for standard input")->required();
  command->add_option("-c,--window", options->window, "Tokens per window")
      ->check(CLI::Range(4, 1 << 20))
      ->capture_default_str();
  command->add_option("--argmax", options->argmax_file,
                      "Write the most likely token of every scored position as JSON lines");
  command->add_flag("--json", options->json, "Print one JSON object");
}

}  // namespace quire::cli
