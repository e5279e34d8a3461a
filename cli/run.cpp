// `quire run`: one generation, streamed to standard output.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>

#include "actors/engine.hpp"
#include "cli/engine_flags.hpp"
#include "cli/event_queue.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/program.hpp"

namespace quire::cli {
namespace {

struct run_options {
  engine_flags engine;
  std::string prompt;
  std::string system;
  std::uint32_t max_tokens = 0;
  sampling_params sampling;
  std::vector<std::string> stop;
  bool seed_given = false;
  bool raw = false;
  bool json = false;
  bool ignore_eos = false;
};

/// What one generation gave.
struct outcome {
  std::string text;
  finish_reason reason = finish_reason::stop;
  generation_usage usage;
};

std::string_view reason_name(finish_reason reason) {
  switch (reason) {
    case finish_reason::stop:
      return "stop";
    case finish_reason::length:
      return "length";
    case finish_reason::cancelled:
      return "cancelled";
  }
  return "";
}

result<generation_request> make_request(const run_options& options, const engine& model) {
  std::string prompt = options.prompt;
  if (prompt == "-") {
    auto input = read_input("-");
    if (!input) return tl::unexpected(input.error());
    prompt = std::move(*input);
  }
  generation_request request;
  request.sampling = options.sampling;
  if (!options.seed_given) request.sampling.seed = std::random_device{}();
  request.max_tokens = options.max_tokens;
  request.stop = options.stop;
  request.ignore_eos = options.ignore_eos;
  const bool raw = options.raw || model.chat() == nullptr;
  if (raw) {
    if (!options.raw)
      fmt::print(stderr, "quire: this model has no chat template; the prompt is used as it is\n");
    if (!options.system.empty())
      return fail(errc::invalid_argument,
                  "--system needs a chat template; leave it out with --raw");
    request.prompt = text_prompt{prompt, true};
    return request;
  }
  auto messages = nlohmann::ordered_json::array();
  if (!options.system.empty())
    messages.push_back({{"role", "system"}, {"content", options.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  request.prompt = chat_prompt{{{"messages", messages}, {"add_generation_prompt", true}}};
  return request;
}

/// Waits for the end; shows text as it comes.
result<outcome> follow(event_queue& events, bool show) {
  outcome result;
  for (;;) {
    generation_event event = events.next();
    if (const auto* delta = std::get_if<delta_event>(&event)) {
      result.text += delta->text;
      if (show) {
        std::fwrite(delta->text.data(), 1, delta->text.size(), stdout);
        std::fflush(stdout);
      }
    } else if (const auto* finished = std::get_if<finished_event>(&event)) {
      result.reason = finished->reason;
      result.usage = finished->usage;
      return result;
    } else if (auto* failed = std::get_if<failed_event>(&event)) {
      return tl::unexpected(std::move(failed->why));
    }
  }
}

double per_second(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0.0;
}

void report(const outcome& done, bool json) {
  const generation_usage& usage = done.usage;
  const double prefill = usage.first_token_seconds;
  const double decode = usage.total_seconds - usage.first_token_seconds;
  const double decode_rate =
      usage.completion_tokens > 1 ? per_second(usage.completion_tokens - 1, decode) : 0.0;
  if (json) {
    const nlohmann::ordered_json line{{"text", done.text},
                                      {"finish_reason", reason_name(done.reason)},
                                      {"prompt_tokens", usage.prompt_tokens},
                                      {"completion_tokens", usage.completion_tokens},
                                      {"cached_tokens", usage.cached_tokens},
                                      {"first_token_seconds", usage.first_token_seconds},
                                      {"total_seconds", usage.total_seconds},
                                      {"decode_tok_s", decode_rate}};
    fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  fmt::print(
      stderr,
      "[{} prompt tokens in {:.2f} s, {:.1f} tok/s; {} tokens in {:.2f} s, {:.1f} tok/s; {}]\n",
      usage.prompt_tokens, prefill, per_second(usage.prompt_tokens, prefill),
      usage.completion_tokens, decode, decode_rate, reason_name(done.reason));
}

result<int> run(const run_options& options) {
  auto engine_options = options.engine.to_options();
  if (!engine_options) return tl::unexpected(engine_options.error());
  interrupt_watch interrupts;
  auto loaded = load_engine(*engine_options);
  if (!loaded) return tl::unexpected(loaded.error());
  engine& model = **loaded;
  auto request = make_request(options, model);
  if (!request) return tl::unexpected(request.error());

  auto events = std::make_shared<event_queue>();
  const request_id id = model.submit(std::move(*request), events);
  interrupts.on_signal([&] { model.cancel(id); });
  auto done = follow(*events, !options.json);
  interrupts.on_signal(nullptr);
  if (!done) return tl::unexpected(done.error());
  if (!options.json && !done->text.ends_with('\n')) fmt::print("\n");
  std::fflush(stdout);
  report(*done, options.json);
  return done->reason == finish_reason::cancelled ? 130 : 0;
}

}  // namespace

void add_run(program& quire) {
  auto [command, options] = quire.add<run_options>(
      "run", "Generate once from a prompt, streamed to standard output", &run);
  options->engine.add_to(*command);
  command->add_option("prompt", options->prompt, "The prompt, - for standard input")->required();
  command->add_option("-n,--max-tokens", options->max_tokens,
                      "Most tokens to generate (0: until the model ends or the context is full)");
  command->add_option("--system", options->system, "System message");
  command->add_flag("--raw", options->raw, "Use the prompt as it is, without the chat template");
  sampling_params& sampling = options->sampling;
  command->add_option("--temp,--temperature", sampling.temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "0 is off")->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "1 is off")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--min-p", sampling.min_p, "0 is off")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--repetition-penalty", sampling.repetition_penalty, "1 is off")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  command
      ->add_option_function<std::uint64_t>(
          "--seed",
          [options = options](std::uint64_t seed) {
            options->sampling.seed = seed;
            options->seed_given = true;
          },
          "Same seed, same text (default: a random one)")
      ->type_name("UINT");
  command->add_option("--stop", options->stop, "End before this text; may be repeated");
  command->add_flag("--ignore-eos", options->ignore_eos, "Go on past the model's end token");
  command->add_flag("--json", options->json, "Print one JSON object at the end");
}

}  // namespace quire::cli
