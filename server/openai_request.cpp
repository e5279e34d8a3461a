#include "server/openai_request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <random>
#include <span>
#include <utility>

#include "models/tokenizer.hpp"
#include "server/chat_messages.hpp"
#include "server/chat_rendering.hpp"
#include "server/field_table.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

constexpr double most_tokens = 2147483647;         // a limit on the number, not on the context
constexpr std::uint32_t default_text_tokens = 16;  // what OpenAI's completions default to
constexpr std::size_t most_choices = 1024;
constexpr std::size_t most_stops = 64;

struct draft {
  openai_call call;
  generation_request request;  // what all prompts of the call share
  std::optional<std::uint32_t> max_tokens;
  std::size_t vocabulary_size = 0;
  bool echo = false;
  bool continues = false;  // the last message, instead of answering it
  bool seeded = false;
};

using rule = field_rule<draft>;
using reader = field_reader<draft>;

template <class T>
T as(const json& value) {
  return value.get<T>();
}

constexpr rule shared_rules[] = {
    {{"stream", field_type::boolean}, [](draft& d, const json& v) { d.call.stream = as<bool>(v); }},
    {{"n", field_type::integer, 1, 128},
     [](draft& d, const json& v) { d.call.num_choices = as<std::uint32_t>(v); }},
    {{"temperature", field_type::number, 0, 2},
     [](draft& d, const json& v) { d.request.sampling.temperature = as<float>(v); }},
    {{"top_p", field_type::number, 0, 1},
     [](draft& d, const json& v) { d.request.sampling.top_p = as<float>(v); }},
    {{"top_k", field_type::integer, -1, most_tokens},
     [](draft& d, const json& v) {  // -1 is how vLLM's clients switch it off
       d.request.sampling.top_k = static_cast<std::uint32_t>(std::max(0, as<int>(v)));
     }},
    {{"min_p", field_type::number, 0, 1},
     [](draft& d, const json& v) { d.request.sampling.min_p = as<float>(v); }},
    {{"repeat_penalty", field_type::number, 0, 10, true},
     [](draft& d, const json& v) { d.request.sampling.repetition_penalty = as<float>(v); }},
    {{"repetition_penalty", field_type::number, 0, 10, true},
     [](draft& d, const json& v) { d.request.sampling.repetition_penalty = as<float>(v); }},
    {{"presence_penalty", field_type::number, -2, 2},
     [](draft& d, const json& v) { d.request.sampling.presence_penalty = as<float>(v); }},
    {{"frequency_penalty", field_type::number, -2, 2},
     [](draft& d, const json& v) { d.request.sampling.frequency_penalty = as<float>(v); }},
    {{"seed", field_type::integer, -9223372036854775808.0, 18446744073709551615.0},
     [](draft& d, const json& v) {
       d.seeded = true;
       d.request.sampling.seed = v.is_number_unsigned()
                                     ? as<std::uint64_t>(v)
                                     : static_cast<std::uint64_t>(as<std::int64_t>(v));
     }},
    {{"ignore_eos", field_type::boolean},
     [](draft& d, const json& v) { d.request.ignore_eos = as<bool>(v); }},
    {{"cache_prompt", field_type::boolean},
     [](draft& d, const json& v) { d.request.use_prefix_cache = as<bool>(v); }},
    {{"priority", field_type::integer, -1000000, 1000000},
     [](draft& d, const json& v) { d.request.priority = as<int>(v); }},
    {{"deadline_ms", field_type::integer, 1, most_tokens},
     [](draft& d, const json& v) {
       d.request.deadline = std::chrono::milliseconds(as<std::int64_t>(v));
     }},
    {{"user", field_type::string},
     [](draft& d, const json& v) { d.request.user = as<std::string>(v); }},
    {{"metadata", field_type::object}, [](draft&, const json&) {}},
};

constexpr rule chat_rules[] = {
    {{"max_tokens", field_type::integer, 1, most_tokens},
     [](draft& d, const json& v) { d.max_tokens = as<std::uint32_t>(v); }},
    {{"max_completion_tokens", field_type::integer, 1, most_tokens},
     [](draft& d, const json& v) { d.max_tokens = as<std::uint32_t>(v); }},
    {{"logprobs", field_type::boolean},
     [](draft& d, const json& v) { d.call.logprobs = as<bool>(v); }},
    {{"top_logprobs", field_type::integer, 0, 20},
     [](draft& d, const json& v) { d.call.top_logprobs = as<std::uint32_t>(v); }},
    {{"continue_final_message", field_type::boolean},
     [](draft& d, const json& v) { d.continues = as<bool>(v); }},
};

constexpr rule text_rules[] = {
    {{"max_tokens", field_type::integer, 0, most_tokens},
     [](draft& d, const json& v) { d.max_tokens = as<std::uint32_t>(v); }},
    {{"logprobs", field_type::integer, 0, 20},
     [](draft& d, const json& v) {
       d.call.logprobs = true;
       d.call.top_logprobs = as<std::uint32_t>(v);
     }},
    {{"echo", field_type::boolean}, [](draft& d, const json& v) { d.echo = as<bool>(v); }},
};

std::optional<api_error> read_stop(draft& d, const json& value) {
  constexpr std::string_view shape = "'stop' must be a non-empty string or a list of them";
  if (value.is_string()) {
    d.request.stop = {value.get<std::string>()};
  } else if (value.is_array() && value.size() <= most_stops) {
    for (const auto& entry : value) {
      if (!entry.is_string())
        return invalid_value("stop", fmt::format("{}; it holds {}.", shape, brief(entry)));
      d.request.stop.push_back(entry.get<std::string>());
    }
  } else {
    return invalid_value("stop", fmt::format("{}, at most {}.", shape, most_stops));
  }
  for (const auto& text : d.request.stop)
    if (text.empty()) return invalid_value("stop", fmt::format("{}.", shape));
  return std::nullopt;
}

std::optional<api_error> read_logit_bias(draft& d, const json& value) {
  if (auto failure = check_shape({"logit_bias", field_type::object}, value)) return failure;
  for (const auto& [key, bias] : value.items()) {
    std::uint32_t token = 0;
    const char* end = key.data() + key.size();
    const auto parsed = std::from_chars(key.data(), end, token);
    if (parsed.ec != std::errc() || parsed.ptr != end || token >= d.vocabulary_size)
      return invalid_value(
          "logit_bias",
          fmt::format("'logit_bias' holds the key {}; keys must be token ids below {}.",
                      brief(json(key)), d.vocabulary_size));
    if (!bias.is_number() || bias.get<double>() < -100 || bias.get<double>() > 100)
      return invalid_value(
          "logit_bias",
          fmt::format("'logit_bias' of token {} must be a number of -100 to 100, not {}.", token,
                      brief(bias)));
    d.request.sampling.logit_bias.emplace_back(token_id{token}, bias.get<float>());
  }
  return std::nullopt;
}

std::optional<api_error> read_stream_options(draft& d, const json& value) {
  if (auto failure = check_shape({"stream_options", field_type::object}, value)) return failure;
  const auto* usage = given_field(value, "include_usage");
  if (usage == nullptr) return std::nullopt;
  if (!usage->is_boolean())
    return invalid_value("stream_options.include_usage",
                         "'stream_options.include_usage' must be a boolean.");
  d.call.include_usage = usage->get<bool>();
  return std::nullopt;
}

std::optional<api_error> read_response_format(draft&, const json& value) {
  if (auto failure = check_shape({"response_format", field_type::object}, value)) return failure;
  const auto* type = given_field(value, "type");
  if (type == nullptr || !type->is_string())
    return invalid_value("response_format.type", "'response_format.type' must be a string.");
  if (*type == "text") return std::nullopt;
  return unsupported_parameter(
      "response_format",
      fmt::format("'response_format' of type {} is not supported yet; use \"text\".",
                  brief(*type)));
}

std::optional<api_error> read_suffix(draft&, const json& value) {
  if (auto failure = check_shape({"suffix", field_type::string}, value)) return failure;
  if (value.get_ref<const std::string&>().empty()) return std::nullopt;
  return unsupported_parameter("suffix", "'suffix' (filling in the middle) is not supported yet.");
}

std::optional<api_error> read_best_of(draft& d, const json& value) {
  if (auto failure = check_shape({"best_of", field_type::integer, 1, 128}, value)) return failure;
  const auto best_of = value.get<std::uint32_t>();
  if (best_of < d.call.num_choices)
    return invalid_value("best_of", fmt::format("'best_of' is {} but must not be below 'n', {}.",
                                                best_of, d.call.num_choices));
  if (best_of == d.call.num_choices) return std::nullopt;
  return unsupported_parameter("best_of", "'best_of' above 'n' is not supported yet.");
}

constexpr reader shared_readers[] = {
    {"stop", read_stop},
    {"logit_bias", read_logit_bias},
    {"stream_options", read_stream_options},
    {"response_format", read_response_format},
};
constexpr reader text_readers[] = {{"suffix", read_suffix}, {"best_of", read_best_of}};

// Fields of other servers that would change the output: dropping them silently would mislead.
constexpr std::string_view unsupported_fields[] = {
    "grammar",       "json_schema",    "guided_json",       "guided_regex",
    "guided_choice", "guided_grammar", "structured_outputs"};

std::optional<api_error> refuse_unsupported(const json& body) {
  for (const auto name : unsupported_fields)
    if (given_field(body, name) != nullptr)
      return unsupported_parameter(
          std::string(name), fmt::format("'{}' (constrained output) is not supported yet.", name));
  return std::nullopt;
}

api_result<draft> start_draft(const json& body, const call_limits& limits, api_kind kind) {
  draft d;
  d.call.kind = kind;
  d.vocabulary_size = limits.served_engine->vocabulary().vocabulary_size();
  d.request.sampling = limits.served->sampling;
  auto name = read_model_name(body, limits);
  if (!name) return tl::unexpected(std::move(name.error()));
  d.call.model = *std::move(name);
  auto failure = read_fields<draft>(body, std::span<const rule>(shared_rules), d);
  if (!failure) failure = read_fields<draft>(body, std::span<const reader>(shared_readers), d);
  if (!failure) failure = refuse_unsupported(body);
  if (failure) return tl::unexpected(*std::move(failure));
  return d;
}

// What follows from several fields together.
void finish_request(draft& d) {
  d.request.num_choices = d.call.num_choices;
  d.request.sampling.logprobs = d.call.logprobs;
  d.request.sampling.top_logprobs = d.call.top_logprobs;
  if (!d.seeded) {
    std::random_device entropy;
    d.request.sampling.seed = (std::uint64_t{entropy()} << 32) | entropy();
  }
}

api_result<std::vector<token_id>> read_ids(const json& list, const std::string& place,
                                           std::size_t vocabulary_size) {
  std::vector<token_id> ids;
  ids.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto& entry = list[i];
    if (!entry.is_number_unsigned() || entry.get<std::uint64_t>() >= vocabulary_size)
      return tl::unexpected(
          invalid_value(fmt::format("{}[{}]", place, i),
                        fmt::format("'{}[{}]' must be a token id below {}, not {}.", place, i,
                                    vocabulary_size, brief(entry))));
    ids.push_back(token_id{entry.get<std::uint32_t>()});
  }
  if (ids.empty())
    return tl::unexpected(invalid_value(place, fmt::format("'{}' must not be empty.", place)));
  return ids;
}

using prompt_content = std::variant<std::string, std::vector<token_id>>;

api_result<std::vector<prompt_content>> read_prompts(const json& value,
                                                     std::size_t vocabulary_size) {
  std::vector<prompt_content> prompts;
  if (value.is_string()) {
    prompts.emplace_back(value.get<std::string>());
    return prompts;
  }
  if (!value.is_array() || value.empty())
    return tl::unexpected(invalid_value(
        "prompt",
        "'prompt' must be a string, a list of strings, a list of token ids, or a list of "
        "such lists, and not empty."));
  if (value.front().is_number()) {
    auto ids = read_ids(value, "prompt", vocabulary_size);
    if (!ids) return tl::unexpected(std::move(ids.error()));
    prompts.emplace_back(*std::move(ids));
    return prompts;
  }
  for (std::size_t i = 0; i < value.size(); ++i) {
    const auto place = fmt::format("prompt[{}]", i);
    if (value[i].is_string()) {
      prompts.emplace_back(value[i].get<std::string>());
    } else if (value[i].is_array()) {
      auto ids = read_ids(value[i], place, vocabulary_size);
      if (!ids) return tl::unexpected(std::move(ids.error()));
      prompts.emplace_back(*std::move(ids));
    } else {
      return tl::unexpected(
          invalid_value(place, fmt::format("'{}' must be a string or a list of token ids, not {}.",
                                           place, brief(value[i]))));
    }
  }
  return prompts;
}

// An echo needs the very tokens that are scored, so text is tokenized here and not by the engine.
echoed_prompt make_echo(const prompt_content& prompt, const tokenizer& vocabulary) {
  if (const auto* text = std::get_if<std::string>(&prompt))
    return {*text, vocabulary.encode(*text, {.add_special = true, .parse_special = true})};
  const auto& ids = std::get<std::vector<token_id>>(prompt);
  std::string text;
  for (const auto id : ids) text += vocabulary.bytes(id, true);
  return {std::move(text), ids};
}

void add_prompts(draft& d, std::vector<prompt_content> prompts, const tokenizer& vocabulary) {
  for (auto& prompt : prompts) {
    auto request = d.request;
    if (d.echo) {
      d.call.echoes.push_back(make_echo(prompt, vocabulary));
      request.prompt = d.call.echoes.back().tokens;
      if (d.call.logprobs) request.prompt_logprobs_from = 1;
    } else if (auto* text = std::get_if<std::string>(&prompt)) {
      request.prompt = text_prompt{std::move(*text), true};
    } else {
      request.prompt = std::get<std::vector<token_id>>(std::move(prompt));
    }
    d.call.prompts.push_back(std::move(request));
  }
}

bool wants_generation_prompt(const json& body) {
  const auto* given = given_field(body, "add_generation_prompt");
  return given != nullptr && *given == true;
}

std::optional<api_error> set_text_limit(draft& d) {
  const auto limit = d.max_tokens.value_or(default_text_tokens);
  d.call.drop_output = limit == 0;
  if (d.call.drop_output && !d.echo)
    return invalid_value("max_tokens", "'max_tokens' must be at least 1 unless 'echo' is set.");
  d.request.max_tokens = std::max(1u, limit);  // the engine reads 0 as "until the context is full"
  // Several choices cannot share a scoring; then one token each is generated and dropped.
  d.request.score_only = d.call.drop_output && d.call.num_choices == 1;
  if (d.request.score_only) d.request.prompt_logprobs_from = 1;
  return std::nullopt;
}

}  // namespace

api_result<std::string> read_model_name(const json& body, const call_limits& limits) {
  const auto& id = limits.served_engine->card().id;
  const auto* given = given_field(body, "model");
  if (given == nullptr) return id;
  if (auto failure = check_shape({"model", field_type::string}, *given))
    return tl::unexpected(*std::move(failure));
  const auto& name = given->get_ref<const std::string&>();
  const auto& aliases = limits.served->aliases;
  if (name.empty()) return id;
  if (name == id || std::find(aliases.begin(), aliases.end(), name) != aliases.end()) return name;
  auto failure = invalid_value(
      "model",
      fmt::format("The model {} does not exist here; this server serves '{}'.", brief(*given), id));
  failure.status = 404;
  failure.type = "not_found_error";
  failure.code = "model_not_found";
  return tl::unexpected(std::move(failure));
}

api_result<openai_call> read_chat_call(const json& body, const call_limits& limits) {
  auto d = start_draft(body, limits, api_kind::chat);
  if (!d) return tl::unexpected(std::move(d.error()));
  auto failure = read_fields<draft>(body, std::span<const rule>(chat_rules), *d);
  if (!failure && d->continues && wants_generation_prompt(body))
    failure = invalid_value("continue_final_message",
                            "'continue_final_message' and 'add_generation_prompt' exclude each "
                            "other.");
  if (!failure && d->call.top_logprobs > 0 && !d->call.logprobs)
    failure = invalid_value("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.");
  if (failure) return tl::unexpected(*std::move(failure));
  auto variables = read_chat_variables(body);
  if (!variables) return tl::unexpected(std::move(variables.error()));
  if (!limits.served_engine->card().has_chat_template)
    return tl::unexpected(unsupported_parameter(
        "messages", "This model carries no chat template; use /v1/completions."));
  finish_request(*d);
  d->request.max_tokens = d->max_tokens.value_or(0);
  if (d->continues) {
    auto prompt = continue_last_message(*limits.served_engine, *std::move(variables));
    if (!prompt) return tl::unexpected(std::move(prompt.error()));
    d->request.prompt = *std::move(prompt);
  } else {
    d->request.prompt = chat_prompt{*std::move(variables)};
  }
  d->call.prompts.push_back(std::move(d->request));
  return std::move(d->call);
}

api_result<openai_call> read_text_call(const json& body, const call_limits& limits) {
  auto d = start_draft(body, limits, api_kind::text);
  if (!d) return tl::unexpected(std::move(d.error()));
  auto failure = read_fields<draft>(body, std::span<const rule>(text_rules), *d);
  if (!failure) failure = read_fields<draft>(body, std::span<const reader>(text_readers), *d);
  if (!failure) failure = set_text_limit(*d);
  if (failure) return tl::unexpected(*std::move(failure));
  const auto* prompt = given_field(body, "prompt");
  if (prompt == nullptr) return tl::unexpected(invalid_value("prompt", "'prompt' is missing."));
  auto prompts = read_prompts(*prompt, d->vocabulary_size);
  if (!prompts) return tl::unexpected(std::move(prompts.error()));
  if (prompts->size() * d->call.num_choices > most_choices)
    return tl::unexpected(
        invalid_value("prompt", fmt::format("{} prompts with n = {} are more than {} choices.",
                                            prompts->size(), d->call.num_choices, most_choices)));
  finish_request(*d);
  add_prompts(*d, *std::move(prompts), limits.served_engine->vocabulary());
  return std::move(d->call);
}

}  // namespace quire
