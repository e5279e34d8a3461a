// `quire serve`: the HTTP server until Ctrl-C or SIGTERM.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/engine.hpp"
#include "cli/engine_flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/logging.hpp"
#include "cli/program.hpp"
#include "config/config.hpp"
#include "server/http_server.hpp"

namespace quire::cli {
namespace {

/// A flag that stands for one configuration key.
struct key_flag {
  const char* names;
  const char* key;
  const char* help;
};

constexpr key_flag key_flags[] = {
    {"-m,--model", "model.path", "GGUF file or model name"},
    {"--host", "server.host", "Address to listen on"},
    {"--port", "server.port", "Port to listen on (0: any free one)"},
    {"--context", "model.context_tokens", "Longest sequence in tokens"},
    {"--kv", "kv.type",
     "Type of the KV store: f32, f16, q8, q4 (keys stay q8), or K/V as in q4/q4"},
    {"--kv-mib", "kv.max_mib", "Largest size of the KV store in MiB"},
    {"--threads", "compute.threads", "Compute threads (0: one per core)"},
    {"--isa", "compute.isa", "Instruction set"},
    {"--batch-invariant", "compute.batch_invariant",
     "Bit-identical logits whatever shares the batch: true or false"},
    {"--log-level", "log.level", "trace, debug, info, warn, error or off"},
};

struct serve_options {
  std::string file;
  /// What was given on the command line: key, value, flag.
  struct setting {
    std::string key;
    std::string value;
    std::string flag;
  };
  std::vector<setting> settings;
};

result<quire_options> resolve(const serve_options& options) {
  config_builder builder;
  if (!options.file.empty()) builder.read_file(options.file);
  builder.read_environment(environ);
  for (const serve_options::setting& given : options.settings)
    builder.set(given.key, given.value, given.flag);
  auto config = builder.finish();
  if (!config) return tl::unexpected(config.error());
  return std::move(config->options);
}

std::string address(const std::string& host, std::uint16_t port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("http://{}:{}", is_v6 ? "[" + host + "]" : host, port);
}

/// Remembers the first signal from its construction on, so that none is lost between telling people
/// that the server is there and waiting.
class signal_latch {
 public:
  explicit signal_latch(interrupt_watch& interrupts) {
    interrupts.on_signal([state = state_] {
      const std::lock_guard lock(state->mutex);
      state->seen = true;
      state->changed.notify_one();
    });
  }

  /// Blocks until there has been a signal.
  void wait() {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [this] { return state_->seen; });
  }

 private:
  struct shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool seen = false;
  };
  std::shared_ptr<shared> state_ = std::make_shared<shared>();
};

result<int> serve(const serve_options& options) {
  auto config = resolve(options);
  if (!config) return tl::unexpected(config.error());
  set_up_logging(config->log.level, config->log.format);
  interrupt_watch interrupts;
  auto engine = load_engine(config->engine);
  if (!engine) return tl::unexpected(engine.error());
  auto server = http_server::start(
      config->server, **engine,
      {.aliases = config->engine.model.alias, .sampling = config->engine.sampling});
  if (!server) return tl::unexpected(server.error());

  signal_latch stop(interrupts);
  const model_card& card = (*engine)->card();
  const std::string url = address(config->server.host, (*server)->port());
  fmt::print(
      "quire serves {} on {}\n"
      "chat in a browser at that address, or:\n"
      "  curl {}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{{\"model\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n",
      card.id, url, url, card.id);
  std::fflush(stdout);
  spdlog::info(
      "ready: {} ({}, {}, {} threads), up to {} tokens per sequence, keys in {}, values in {}",
      card.id, card.weights_type, card.isa, card.threads, card.context_tokens,
      kv_type_name(config->engine.kv.type_k), kv_type_name(config->engine.kv.type_v));

  stop.wait();
  spdlog::info("draining: running requests may finish for {} s; a second signal ends at once",
               config->server.drain_timeout_ms / 1000.0);
  if (!(*server)->drain()) spdlog::warn("some requests were cancelled at the end of the drain");
  return 0;
}

}  // namespace

void add_serve(program& quire) {
  auto [command, options] = quire.add<serve_options>(
      "serve", "Serve a model over HTTP, with a chat page (defaults < file < QUIRE_* < flags)",
      &serve);
  command->add_option("-c,--config", options->file, "YAML file; see `quire config schema`");
  for (const key_flag& flag : key_flags) {
    const std::string names = flag.names;
    const std::string long_name = names.substr(names.rfind("--"));
    command
        ->add_option_function<std::string>(
            names,
            [options = options, key = std::string(flag.key), long_name](const std::string& value) {
              options->settings.push_back({key, value, long_name});
            },
            fmt::format("{} ({})", flag.help, flag.key))
        ->type_name("VALUE");
  }
  command
      ->add_option_function<std::vector<std::string>>(
          "--set",
          [options = options](const std::vector<std::string>& items) {
            for (const std::string& item : items) {
              const std::size_t equals = item.find('=');
              if (equals == std::string::npos)
                throw CLI::ValidationError("--set", item + ": not of the form KEY=VALUE");
              options->settings.push_back(
                  {item.substr(0, equals), item.substr(equals + 1), "--set"});
            }
          },
          "Any configuration key, as in --set kv.pages=64; may be repeated")
      ->type_name("KEY=VALUE");
}

}  // namespace quire::cli
