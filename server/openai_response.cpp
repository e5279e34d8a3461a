#include "server/openai_response.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "core/check.hpp"
#include "server/sse.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

const char* reason_name(finish_reason reason) {
  return reason == finish_reason::length ? "length" : "stop";
}

// JSON has no infinities; OpenAI's stand-in for "impossible" is this number.
double finite_logprob(float value) {
  return std::isfinite(value) ? std::max(-9999.0, static_cast<double>(value)) : -9999.0;
}

bool is_utf8(std::string_view bytes) {
  try {
    static_cast<void>(json(bytes).dump());
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

std::uint64_t code_points(std::string_view text) {
  return static_cast<std::uint64_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
  }));
}

// OpenAI's completions write tokens that are no text of their own as "bytes:\xe2\x80".
std::string token_label(const tokenizer& vocabulary, token_id token) {
  const auto bytes = vocabulary.bytes(token, true);
  if (is_utf8(bytes)) return std::string(bytes);
  std::string label = "bytes:";
  for (const char c : bytes) label += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return label;
}

json chat_entry(const tokenizer& vocabulary, token_id token, float logprob) {
  const auto bytes = vocabulary.bytes(token, true);
  json numbers = json::array();
  for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
  return {{"token", std::string(bytes)},
          {"logprob", finite_logprob(logprob)},
          {"bytes", std::move(numbers)}};
}

json empty_text_logprobs() {
  return {{"tokens", json::array()},
          {"token_logprobs", json::array()},
          {"top_logprobs", json::array()},
          {"text_offset", json::array()}};
}

void append_text_logprobs(json& into, const json& more) {
  for (const auto& [key, list] : more.items())
    for (const auto& entry : list) into[key].push_back(entry);
}

}  // namespace

openai_answer::openai_answer(const openai_call& call, answer_identity identity,
                             const tokenizer& vocabulary)
    : identity_(std::move(identity)),
      vocabulary_(&vocabulary),
      kind_(call.kind),
      stream_(call.stream),
      include_usage_(call.include_usage),
      logprobs_(call.logprobs),
      drop_output_(call.drop_output),
      echoes_(call.echoes),
      num_prompts_(call.prompts.size()),
      choices_per_prompt_(call.num_choices),
      choices_(call.prompts.size() * call.num_choices),
      prompt_scores_(call.prompts.size()),
      prompt_tokens_(call.prompts.size()),
      cached_tokens_(call.prompts.size()) {}

void openai_answer::take(std::size_t prompt, generation_event event, std::string& out) {
  if (failure_) return;
  const auto index_of = [&](std::uint32_t choice) { return prompt * choices_per_prompt_ + choice; };
  if (const auto* admitted = std::get_if<admitted_event>(&event)) {
    prompt_tokens_[prompt] = admitted->prompt_tokens;
    ++num_admitted_;
  } else if (auto* delta = std::get_if<delta_event>(&event)) {
    take_delta(index_of(delta->choice), std::move(*delta), out);
  } else if (auto* scores = std::get_if<prompt_logprobs_event>(&event)) {
    auto& known = prompt_scores_[prompt];
    known.insert(known.end(), scores->entries.begin(), scores->entries.end());
  } else if (const auto* finished = std::get_if<finished_event>(&event)) {
    take_finish(prompt, index_of(finished->choice), *finished, out);
  } else if (auto* failed = std::get_if<failed_event>(&event)) {
    failure_ = std::move(failed->why);
  }
}

void openai_answer::open(std::size_t index, std::string& out) {
  auto& choice = choices_[index];
  if (std::exchange(choice.opened, true)) return;
  if (kind_ == api_kind::chat) {
    if (stream_) emit(index, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr, out);
    return;
  }
  if (echoes_.empty()) return;
  const auto prompt = index / choices_per_prompt_;
  const auto& echo = echoes_[prompt];
  json logprobs = logprobs_ ? echo_logprobs(prompt, choice) : json(nullptr);
  if (stream_) {
    emit(index, echo.text, std::move(logprobs), nullptr, out);
  } else {
    choice.text = echo.text;
    if (logprobs_) choice.logprobs = std::move(logprobs);
  }
}

void openai_answer::take_delta(std::size_t index, delta_event delta, std::string& out) {
  open(index, out);
  if (drop_output_ || (delta.text.empty() && delta.tokens.empty())) return;
  auto& choice = choices_[index];
  json logprobs = nullptr;
  if (logprobs_)
    logprobs =
        kind_ == api_kind::chat ? chat_logprobs(delta.tokens) : text_logprobs(delta.tokens, choice);
  if (stream_) {
    json content = delta.text;
    if (kind_ == api_kind::chat) content = {{"content", std::move(delta.text)}};
    emit(index, std::move(content), std::move(logprobs), nullptr, out);
    return;
  }
  choice.text += delta.text;
  if (!logprobs_) return;
  if (kind_ == api_kind::chat) {
    for (auto& entry : logprobs["content"]) choice.logprobs.push_back(std::move(entry));
  } else {
    if (choice.logprobs.is_array()) choice.logprobs = empty_text_logprobs();
    append_text_logprobs(choice.logprobs, logprobs);
  }
}

void openai_answer::take_finish(std::size_t prompt, std::size_t index, const finished_event& event,
                                std::string& out) {
  if (event.reason == finish_reason::cancelled) {  // not by the client: it would not be listening
    failure_ = error{errc::unavailable, "The server is shutting down; try again.", {}};
    return;
  }
  open(index, out);
  auto& choice = choices_[index];
  if (choice.reason) return;
  choice.reason = drop_output_ ? finish_reason::length : event.reason;
  ++num_finished_;
  prompt_tokens_[prompt] = event.usage.prompt_tokens;
  cached_tokens_[prompt] = std::max(cached_tokens_[prompt], event.usage.cached_tokens);
  if (!drop_output_) completion_tokens_ += event.usage.completion_tokens;
  if (!stream_) return;
  json last = kind_ == api_kind::chat ? json::object() : json("");
  emit(index, std::move(last), nullptr, reason_name(*choice.reason), out);
}

void openai_answer::emit(std::size_t index, json delta, json logprobs, json reason,
                         std::string& out) const {
  const bool chat = kind_ == api_kind::chat;
  json chunk = frame(chat ? "chat.completion.chunk" : "text_completion");
  json choice = {{"index", index}};
  choice[chat ? "delta" : "text"] = std::move(delta);
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = std::move(reason);
  chunk["choices"] = json::array({std::move(choice)});
  if (include_usage_) chunk["usage"] = nullptr;
  append_sse_event(out, chunk);
}

void openai_answer::append_end(std::string& out) const {
  if (include_usage_) {
    json chunk = frame(kind_ == api_kind::chat ? "chat.completion.chunk" : "text_completion");
    chunk["choices"] = json::array();
    chunk["usage"] = usage();
    append_sse_event(out, chunk);
  }
  append_sse_done(out);
}

json openai_answer::body() const {
  const bool chat = kind_ == api_kind::chat;
  json answer = frame(chat ? "chat.completion" : "text_completion");
  json list = json::array();
  for (std::size_t index = 0; index < choices_.size(); ++index) {
    const auto& choice = choices_[index];
    QUIRE_CHECK(choice.reason.has_value(), "a body was asked for before every choice finished");
    json entry = {{"index", index}};
    if (chat)
      entry["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    else
      entry["text"] = choice.text;
    if (!logprobs_)
      entry["logprobs"] = nullptr;
    else if (chat)
      entry["logprobs"] = {{"content", choice.logprobs}};
    else
      entry["logprobs"] = choice.logprobs.is_array() ? empty_text_logprobs() : choice.logprobs;
    entry["finish_reason"] = reason_name(*choice.reason);
    list.push_back(std::move(entry));
  }
  answer["choices"] = std::move(list);
  answer["usage"] = usage();
  return answer;
}

json openai_answer::frame(const char* object) const {
  return {{"id", identity_.id},
          {"object", object},
          {"created", identity_.created},
          {"model", identity_.model}};
}

json openai_answer::usage() const {
  std::uint64_t prompt = 0;
  std::uint64_t cached = 0;
  for (const auto tokens : prompt_tokens_) prompt += tokens;
  for (const auto tokens : cached_tokens_) cached += tokens;
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion_tokens_},
          {"total_tokens", prompt + completion_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

json openai_answer::chat_logprobs(const std::vector<sampled_token>& tokens) const {
  json content = json::array();
  for (const auto& token : tokens) {
    json entry = chat_entry(*vocabulary_, token.token, token.logprob);
    json top = json::array();
    for (const auto& other : token.top)
      top.push_back(chat_entry(*vocabulary_, other.token, other.logprob));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

json openai_answer::text_logprobs(const std::vector<sampled_token>& tokens,
                                  choice_state& of) const {
  json lists = empty_text_logprobs();
  for (const auto& token : tokens) {
    json top = json::object();
    for (const auto& other : token.top)
      top[token_label(*vocabulary_, other.token)] = finite_logprob(other.logprob);
    lists["tokens"].push_back(token_label(*vocabulary_, token.token));
    lists["token_logprobs"].push_back(finite_logprob(token.logprob));
    lists["top_logprobs"].push_back(std::move(top));
    lists["text_offset"].push_back(of.text_offset);
    of.text_offset += code_points(vocabulary_->bytes(token.token));
  }
  return lists;
}

json openai_answer::echo_logprobs(std::size_t prompt, choice_state& of) const {
  const auto& tokens = echoes_[prompt].tokens;
  const auto& scores = prompt_scores_[prompt];
  json lists = empty_text_logprobs();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto label = token_label(*vocabulary_, tokens[i]);
    lists["tokens"].push_back(label);
    lists["text_offset"].push_back(of.text_offset);
    of.text_offset += code_points(vocabulary_->bytes(tokens[i]));
    if (i == 0 || i > scores.size()) {  // nothing comes before the first token
      lists["token_logprobs"].push_back(nullptr);
      lists["top_logprobs"].push_back(nullptr);
      continue;
    }
    const auto& score = scores[i - 1];
    lists["token_logprobs"].push_back(finite_logprob(score.logprob));
    json top = nullptr;
    if (score.best == tokens[i] || !std::isnan(score.best_logprob)) {
      top = json::object();
      if (score.best != tokens[i])
        top[token_label(*vocabulary_, score.best)] = finite_logprob(score.best_logprob);
      top[label] = finite_logprob(score.logprob);
    }
    lists["top_logprobs"].push_back(std::move(top));
  }
  return lists;
}

}  // namespace quire
