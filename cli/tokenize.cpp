// `quire tokenize` and `quire detokenize`: the model's tokenizer from outside.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/input.hpp"
#include "cli/model_path.hpp"
#include "cli/program.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire::cli {
namespace {

struct tokenize_options {
  std::string model;
  std::string file = "-";
  bool add_special = false;
  bool parse_special = false;
  bool skip_special = false;
};

/// The tokenizer and the file it may point into.
struct open_vocabulary {
  gguf_file file;
  std::unique_ptr<tokenizer> vocabulary;
};

result<open_vocabulary> open(const std::string& model) {
  auto path = resolve_model(model);
  if (!path) return tl::unexpected(path.error());
  auto file = gguf_file::open(*path);
  if (!file) return tl::unexpected(file.error());
  auto vocabulary = load_tokenizer(*file);
  if (!vocabulary) return tl::unexpected(vocabulary.error());
  return open_vocabulary{std::move(*file), std::move(*vocabulary)};
}

result<int> tokenize(const tokenize_options& options) {
  auto model = open(options.model);
  if (!model) return tl::unexpected(model.error());
  auto text = read_input(options.file);
  if (!text) return tl::unexpected(text.error());
  const auto tokens = model->vocabulary->encode(
      *text, {.add_special = options.add_special, .parse_special = options.parse_special});
  std::string json = "[";
  for (const token_id token : tokens) {
    if (json.size() > 1) json += ',';
    json += std::to_string(to_index(token));
  }
  json += "]\n";
  std::fwrite(json.data(), 1, json.size(), stdout);
  return 0;
}

result<std::vector<token_id>> parse_tokens(const std::string& text, const std::string& name,
                                           std::size_t vocabulary_size) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array())
    return fail(errc::invalid_argument, name + ": not a JSON array of token ids");
  std::vector<token_id> tokens;
  for (const auto& item : json) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() >= vocabulary_size)
      return fail(errc::invalid_argument,
                  fmt::format("{}: element {} is {}, not a token id below {}", name, tokens.size(),
                              item.dump(), vocabulary_size));
    tokens.push_back(token_id{item.get<std::uint32_t>()});
  }
  return tokens;
}

result<int> detokenize(const tokenize_options& options) {
  auto model = open(options.model);
  if (!model) return tl::unexpected(model.error());
  auto json = read_input(options.file);
  if (!json) return tl::unexpected(json.error());
  const tokenizer& vocabulary = *model->vocabulary;
  const std::string name = options.file == "-" ? "standard input" : options.file;
  auto tokens = parse_tokens(*json, name, vocabulary.vocabulary_size());
  if (!tokens) return tl::unexpected(tokens.error());
  const std::string text = vocabulary.decode(*tokens, !options.skip_special);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace

void add_tokenize(program& quire) {
  auto [command, options] = quire.add<tokenize_options>(
      "tokenize", "Print the token ids of a text as one JSON array", &tokenize);
  command->add_option("-m,--model", options->model, "GGUF file or model name");
  command->add_option("-f,--file", options->file, "File to read, - for standard input");
  command->add_flag("--add-special", options->add_special, "Add BOS and EOS where the model does");
  command->add_flag("--parse-special", options->parse_special,
                    "Recognise control tokens written out in the text");
}

void add_detokenize(program& quire) {
  auto [command, options] = quire.add<tokenize_options>(
      "detokenize", "Print the text of a JSON array of token ids", &detokenize);
  command->add_option("-m,--model", options->model, "GGUF file or model name");
  command->add_option("-f,--file", options->file, "File to read, - for standard input");
  command->add_flag("--skip-special", options->skip_special, "Leave control tokens out");
}

}  // namespace quire::cli
