#include "models/tokenizer.hpp"

#include <fmt/format.h>

#include "models/bpe_tokenizer.hpp"
#include "models/spm_tokenizer.hpp"
#include "models/utf8.hpp"

namespace quire {

namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";  // U+FFFD

}  // namespace

result<std::unique_ptr<tokenizer>> load_tokenizer(const gguf_file& file) {
  const auto model = file.get_string("tokenizer.ggml.model");
  if (!model)
    return fail(errc::invalid_file, "the file has no tokenizer (tokenizer.ggml.model is missing)");
  if (*model == "gpt2") return load_bpe_tokenizer(file);
  if (*model == "llama") return load_spm_tokenizer(file);
  return fail(
      errc::unsupported,
      fmt::format("the tokenizer model '{}' (tokenizer.ggml.model) is not known; known are: "
                  "gpt2, llama",
                  *model));
}

std::string detokenizer::push(token_id token) {
  pending_ += vocabulary_->bytes(token);
  std::string out;
  std::size_t at = 0;
  while (at < pending_.size()) {
    const auto step = next_utf8(std::string_view(pending_).substr(at));
    if (step.state == utf8_state::truncated) break;
    out += step.state == utf8_state::valid ? std::string_view(pending_).substr(at, step.size)
                                           : replacement;
    at += step.size;
  }
  pending_.erase(0, at);
  return out;
}

std::string detokenizer::finish() {
  if (pending_.empty()) return {};
  pending_.clear();  // push() leaves at most one incomplete character
  return std::string(replacement);
}

}  // namespace quire
