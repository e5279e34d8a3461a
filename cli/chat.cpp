// `quire chat`: a conversation in the terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>

#include "actors/engine.hpp"
#include "cli/engine_flags.hpp"
#include "cli/event_queue.hpp"
#include "cli/interrupt.hpp"
#include "cli/program.hpp"

namespace quire::cli {
namespace {

struct chat_options {
  engine_flags engine;
  std::string system;
  std::uint32_t max_tokens = 0;
  sampling_params sampling;
};

/// The messages so far, as the chat template takes them.
class conversation {
 public:
  explicit conversation(std::string system) : system_(std::move(system)) { clear(); }

  void clear() {
    messages_ = nlohmann::ordered_json::array();
    if (!system_.empty()) add("system", system_);
  }
  void set_system(std::string system) {
    system_ = std::move(system);
    clear();
  }
  void add(const char* role, const std::string& content) {
    messages_.push_back({{"role", role}, {"content", content}});
  }
  void drop_last() { messages_.erase(messages_.size() - 1); }
  chat_prompt prompt() const {
    return {{{"messages", messages_}, {"add_generation_prompt", true}}};
  }

 private:
  std::string system_;
  nlohmann::ordered_json messages_;
};

/// Streams one answer to standard output. Errors: what the engine refused.
result<std::string> answer(engine& model, interrupt_watch& interrupts, generation_request request) {
  auto events = std::make_shared<event_queue>();
  const request_id id = model.submit(std::move(request), events);
  interrupts.on_signal([&] { model.cancel(id); });
  std::string text;
  for (;;) {
    generation_event event = events->next();
    if (const auto* delta = std::get_if<delta_event>(&event)) {
      text += delta->text;
      std::fwrite(delta->text.data(), 1, delta->text.size(), stdout);
      std::fflush(stdout);
    } else if (std::holds_alternative<finished_event>(event)) {
      break;
    } else if (auto* failed = std::get_if<failed_event>(&event)) {
      interrupts.on_signal(nullptr);
      return tl::unexpected(std::move(failed->why));
    }
  }
  interrupts.on_signal(nullptr);
  std::fputs("\n", stdout);
  std::fflush(stdout);
  return text;
}

/// Obeys a line that begins with a slash; returns whether the conversation goes on.
bool obey(const std::string& line, conversation& talk) {
  if (line == "/quit" || line == "/exit") return false;
  if (line == "/clear") {
    talk.clear();
    fmt::print(stderr, "(cleared)\n");
  } else if (line.starts_with("/system")) {
    talk.set_system(line.size() > 8 ? line.substr(8) : std::string{});
    fmt::print(stderr, "(system message set, conversation cleared)\n");
  } else {
    fmt::print(stderr,
               "/clear forgets the conversation, /system TEXT sets the system message, "
               "/quit ends; Ctrl-C stops an answer\n");
  }
  return true;
}

result<int> chat(const chat_options& options) {
  auto engine_options = options.engine.to_options();
  if (!engine_options) return tl::unexpected(engine_options.error());
  interrupt_watch interrupts;
  auto loaded = load_engine(*engine_options);
  if (!loaded) return tl::unexpected(loaded.error());
  engine& model = **loaded;
  if (model.chat() == nullptr)
    return fail(errc::unsupported,
                "this model has no chat template and cannot chat; use `quire run --raw`");

  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) fmt::print(stderr, "{}: /help for commands, Ctrl-D ends\n", model.card().id);
  conversation talk(options.system);
  std::random_device entropy;
  for (std::string line;;) {
    if (terminal) fmt::print(stderr, "> ");
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    if (line.front() == '/') {
      if (!obey(line, talk)) break;
      continue;
    }
    talk.add("user", line);
    generation_request request;
    request.prompt = talk.prompt();
    request.sampling = options.sampling;
    request.sampling.seed = entropy();
    request.max_tokens = options.max_tokens;
    auto text = answer(model, interrupts, std::move(request));
    if (text) {
      talk.add("assistant", *text);
    } else {
      talk.drop_last();
      fmt::print(stderr, "quire: {}\n", text.error().message);
    }
  }
  return 0;
}

}  // namespace

void add_chat(program& quire) {
  auto [command, options] =
      quire.add<chat_options>("chat", "Talk with a model in the terminal", &chat);
  options->engine.add_to(*command);
  command->add_option("--system", options->system, "System message");
  command->add_option("-n,--max-tokens", options->max_tokens,
                      "Most tokens of an answer (0: until the model ends)");
  command->add_option("--temp,--temperature", options->sampling.temperature, "0 is greedy")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
}

}  // namespace quire::cli
