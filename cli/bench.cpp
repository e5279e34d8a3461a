// `quire bench`: the engine's speed without HTTP.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench_runs.hpp"
#include "cli/engine_flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/program.hpp"

namespace quire::cli {
namespace {

struct bench_options {
  engine_flags engine;
  std::uint32_t pp = 512;
  std::uint32_t tg = 64;
  std::vector<std::uint32_t> streams{1, 16, 64};
  streams_shape shape;
  std::uint32_t depth = 0;
  std::uint32_t repeat = 3;
  std::uint64_t seed = 0;
  bool json = false;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double median_absolute_deviation(const std::vector<double>& values) {
  const double center = median(values);
  std::vector<double> distances;
  for (const double value : values) distances.push_back(std::abs(value - center));
  return median(distances);
}

/// Runs the tests one after the other and prints a line for each.
class bench_session {
 public:
  bench_session(const bench_options& options, engine& model, bench_runner& runner)
      : options_(options), engine_(model), runner_(runner) {}

  result<int> run() {
    if (auto warm = runner_.streams({.streams = 2, .prompt = 32, .gen = 8}); !warm)
      return tl::unexpected(warm.error());
    const std::uint32_t depth = options_.depth;
    if (options_.pp > 0) {
      auto line = measure(fmt::format("pp{}", options_.pp), "tok_s", {},
                          [&] { return runner_.prefill(options_.pp, depth); });
      if (!line) return tl::unexpected(line.error());
    }
    if (options_.tg > 0) {
      auto line = measure(fmt::format("tg{}", options_.tg), "tok_s", {},
                          [&] { return runner_.decode(options_.tg, depth); });
      if (!line) return tl::unexpected(line.error());
    }
    for (const std::uint32_t streams : options_.streams) {
      if (streams == 0) continue;
      streams_shape shape = options_.shape;
      shape.streams = streams;
      const nlohmann::ordered_json extra{{"streams", streams},
                                         {"prompt", shape.prompt},
                                         {"gen", shape.gen},
                                         {"shared_prefix", shape.shared_prefix},
                                         {"warm", shape.warm}};
      auto line = measure("streams", "decode_tok_s", extra, [&] { return runner_.streams(shape); });
      if (!line) return tl::unexpected(line.error());
    }
    return 0;
  }

 private:
  /// Repeats a test and prints the medians; `headline` is the key that median and mad are of.
  result<void> measure(const std::string& test, const std::string& headline,
                       const nlohmann::ordered_json& extra,
                       const std::function<result<measurement>()>& once) {
    reset_peak_rss();
    std::map<std::string, std::vector<double>> samples;
    for (std::uint32_t i = 0; i < options_.repeat; ++i) {
      progress(test, extra, i);
      auto values = once();
      if (!values) return tl::unexpected(values.error());
      for (const auto& [key, value] : *values) samples[key].push_back(value);
    }
    progress("", extra, 0);
    auto status = engine_.status();
    if (!status) return tl::unexpected(status.error());

    nlohmann::ordered_json line{{"test", test}};
    if (!extra.empty()) line.update(extra);
    for (const char* key : {"tok_s", "prefill_tok_s", "decode_tok_s", "total_tok_s", "seconds"})
      if (samples.contains(key)) line[key] = rounded(median(samples[key]));
    line["peak_rss_mib"] = rounded(peak_rss_mib());
    line["kv_bytes_per_token"] = status->kv_bytes_per_token;
    if (options_.depth > 0 && extra.empty()) line["depth"] = options_.depth;
    line["isa"] = engine_.card().isa;
    line["threads"] = engine_.card().threads;
    line["kv"] = options_.engine.kv;
    line["k_type"] = kv_type_name(status->kv.k);
    line["v_type"] = kv_type_name(status->kv.v);
    line["median"] = rounded(median(samples[headline]));
    line["mad"] = rounded(median_absolute_deviation(samples[headline]));
    line["n"] = options_.repeat;
    print(line);
    return {};
  }

  static double rounded(double value) { return std::round(value * 1000.0) / 1000.0; }

  void progress(const std::string& test, const nlohmann::ordered_json& extra,
                std::uint32_t done) const {
    if (isatty(STDERR_FILENO) == 0) return;
    if (test.empty()) {
      fmt::print(stderr, "\r\033[K");
      return;
    }
    const std::string which =
        extra.empty() ? test : fmt::format("{} {}", extra["streams"].get<std::uint32_t>(), test);
    fmt::print(stderr, "\r\033[K{}: {} of {}", which, done + 1, options_.repeat);
  }

  void print(const nlohmann::ordered_json& line) {
    if (options_.json) {
      fmt::print("{}\n", line.dump());
    } else {
      if (!std::exchange(header_printed_, true))
        fmt::print("{} | {} | {} threads | kv {} | median of {}\n", engine_.card().id,
                   engine_.card().isa, engine_.card().threads, options_.engine.kv, options_.repeat);
      const double mad = line["mad"].get<double>();
      if (line.contains("tok_s"))
        fmt::print("{:<12} {:>9.1f} tok/s ± {:.1f}\n", line["test"].get<std::string>(),
                   line["tok_s"].get<double>(), mad);
      else
        fmt::print(
            "{:<12} {:>9.1f} tok/s ± {:.1f} decode, {:.1f} prefill, {:.1f} overall; {:.2f} "
            "s, {:.0f} MiB\n",
            fmt::format("{} streams", line["streams"].get<std::uint32_t>()),
            line["decode_tok_s"].get<double>(), mad, line["prefill_tok_s"].get<double>(),
            line["total_tok_s"].get<double>(), line["seconds"].get<double>(),
            line["peak_rss_mib"].get<double>());
    }
    std::fflush(stdout);
  }

  const bench_options& options_;
  engine& engine_;
  bench_runner& runner_;
  bool header_printed_ = false;
};

/// Gives the engine room for the largest test, unless the user has set the size.
void fit_limits(const bench_options& options, engine_options& engine) {
  const std::uint32_t most = options.streams.empty() ? 0 : std::ranges::max(options.streams);
  engine.scheduler.max_streams = std::max(engine.scheduler.max_streams, most);
  engine.scheduler.max_queued_requests = std::max(engine.scheduler.max_queued_requests, most);
  const std::uint64_t tokens = std::uint64_t{most} * (options.shape.prompt + options.shape.gen);
  engine.scheduler.max_queued_tokens =
      std::max(engine.scheduler.max_queued_tokens,
               static_cast<std::uint32_t>(std::min<std::uint64_t>(tokens, UINT32_MAX)));
}

result<int> bench(const bench_options& options) {
  if (options.shape.shared_prefix > options.shape.prompt)
    return fail(errc::invalid_argument, "--shared-prefix is longer than --prompt");
  auto engine_options = options.engine.to_options();
  if (!engine_options) return tl::unexpected(engine_options.error());
  fit_limits(options, *engine_options);
  interrupt_watch interrupts;
  auto loaded = load_engine(*engine_options);
  if (!loaded) return tl::unexpected(loaded.error());
  engine& model = **loaded;
  auto prompts = word_prompts::make(model.vocabulary(),
                                    options.seed != 0 ? options.seed : std::random_device{}());
  if (!prompts) return tl::unexpected(prompts.error());
  bench_runner runner(model, std::move(*prompts));
  interrupts.on_signal([&] { runner.cancel(); });
  auto code = bench_session(options, model, runner).run();
  interrupts.on_signal(nullptr);
  return code;
}

}  // namespace

void add_bench(program& quire) {
  auto [command, options] =
      quire.add<bench_options>("bench", "Measure the engine's speed, without HTTP", &bench);
  options->engine.add_to(*command);
  command->add_option("--pp", options->pp, "Prompt tokens of the prefill test (0 skips it)")
      ->capture_default_str();
  command->add_option("--tg", options->tg, "Output tokens of the decode test (0 skips it)")
      ->capture_default_str();
  command->add_option("--streams", options->streams, "Numbers of streams at once (0 skips)")
      ->delimiter(',')
      ->capture_default_str();
  streams_shape& shape = options->shape;
  command->add_option("--prompt", shape.prompt, "Prompt tokens of each stream")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--gen", shape.gen, "Output tokens of each stream")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--shared-prefix", shape.shared_prefix, "Prompt tokens that all streams share")
      ->capture_default_str();
  command->add_flag(
      "--warm", shape.warm,
      "Compute the prompts of the streams beforehand, so that decoding alone is timed");
  command->add_option("--depth", options->depth, "Tokens before the measured ones in pp and tg")
      ->capture_default_str();
  command->add_option("--repeat", options->repeat, "Repeats of each test; medians are printed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "For the random words (0: a new one every time)");
  command->add_flag("--json", options->json, "Print JSON lines");
}

}  // namespace quire::cli
