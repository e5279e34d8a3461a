// `quire template`: renders a chat template exactly as a request would.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/input.hpp"
#include "cli/model_path.hpp"
#include "cli/program.hpp"
#include "models/chat_template.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire::cli {
namespace {

struct template_options {
  std::string model;
  std::string template_file;
  std::string file = "-";
};

/// Sets bos_token and eos_token as the model's file names them, unless the input has set them.
void add_special_tokens(const gguf_file& file, nlohmann::ordered_json& variables) {
  const gguf_array* pieces = file.get_array("tokenizer.ggml.tokens");
  if (pieces == nullptr) return;
  for (const char* name : {"bos", "eos"}) {
    const auto id = file.get_uint(std::string("tokenizer.ggml.") + name + "_token_id");
    const std::string variable = std::string(name) + "_token";
    if (id && *id < pieces->strings.size() && !variables.contains(variable))
      variables[variable] = std::string(pieces->strings[*id]);
  }
}

result<std::string> source_from_model(const std::string& model, nlohmann::ordered_json& variables) {
  auto path = resolve_model(model);
  if (!path) return tl::unexpected(path.error());
  auto file = gguf_file::open(*path);
  if (!file) return tl::unexpected(file.error());
  const auto source = file->get_string("tokenizer.chat_template");
  if (!source)
    return fail(errc::unsupported,
                path->string() + ": has no chat template; give one with --template FILE");
  add_special_tokens(*file, variables);
  return std::string(*source);
}

result<int> render(const template_options& options) {
  auto input = read_input(options.file);
  if (!input) return tl::unexpected(input.error());
  const std::string name = options.file == "-" ? "standard input" : options.file;
  nlohmann::ordered_json variables;
  try {
    variables = nlohmann::ordered_json::parse(*input);
  } catch (const nlohmann::json::parse_error& problem) {
    return fail(errc::invalid_argument, name + ": " + problem.what());
  }
  if (!variables.is_object())
    return fail(errc::invalid_argument, name + ": not a JSON object with \"messages\"");

  auto source = options.template_file.empty() ? source_from_model(options.model, variables)
                                              : read_input(options.template_file);
  if (!source) return tl::unexpected(source.error());
  auto parsed = chat_template::parse(*source);
  if (!parsed) return tl::unexpected(parsed.error());
  auto text = parsed->render(variables);
  if (!text) return tl::unexpected(text.error());
  std::fwrite(text->data(), 1, text->size(), stdout);
  return 0;
}

}  // namespace

void add_template(program& quire) {
  auto [command, options] = quire.add<template_options>(
      "template", "Print the prompt that a chat template makes of messages", &render);
  auto* model = command->add_option("-m,--model", options->model, "GGUF file or model name");
  command->add_option("--template", options->template_file, "Template file instead of the model's")
      ->excludes(model);
  command->add_option("-f,--file", options->file,
                      "JSON object {\"messages\": [...], ...}, - for standard input");
}

}  // namespace quire::cli
