#include "models/pre_tokenizer.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include "core/check.hpp"
#include "models/utf8.hpp"

namespace quire {

namespace {

// The expressions stand as in the models' own tokenizer.json.
constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen35_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})"
    R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken_words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o_words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek3_words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A scheme: each expression splits the words that the ones before it left, keeping what lies
/// between its matches as words too.
struct scheme {
  std::array<std::string_view, 3> stages;
  bool ignore_merges;
  bool adds_bos;
};

constexpr scheme gpt2{{gpt2_words}, false, false};
constexpr scheme smollm{{R"(\p{N})", gpt2_words}, false, false};
constexpr scheme llama3{{llama3_words}, true, true};
constexpr scheme chatglm{{llama3_words}, false, false};
constexpr scheme glm4{{llama3_words}, true, false};
constexpr scheme qwen2{{qwen2_words}, false, false};
constexpr scheme qwen35{{qwen35_words}, false, false};
constexpr scheme tekken{{tekken_words}, true, true};
constexpr scheme gpt4o{{gpt4o_words}, false, false};
constexpr scheme deepseek3{
    {R"(\p{N}{1,3})", R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)", deepseek3_words},
    false,
    false};

struct named_scheme {
  std::string_view name;
  const scheme* what;
};

constexpr std::array named_schemes{
    named_scheme{"gpt-2", &gpt2},
    named_scheme{"phi-2", &gpt2},
    named_scheme{"mpt", &gpt2},
    named_scheme{"olmo", &gpt2},
    named_scheme{"jais", &gpt2},
    named_scheme{"exaone4", &gpt2},
    named_scheme{"smollm", &smollm},
    named_scheme{"starcoder", &smollm},
    named_scheme{"refact", &smollm},
    named_scheme{"command-r", &smollm},
    named_scheme{"codeshell", &smollm},
    named_scheme{"llama-bpe", &llama3},
    named_scheme{"llama3", &llama3},
    named_scheme{"llama-v3", &llama3},
    named_scheme{"falcon3", &llama3},
    named_scheme{"lfm2", &llama3},
    named_scheme{"dbrx", &chatglm},
    named_scheme{"smaug-bpe", &chatglm},
    named_scheme{"chatglm-bpe", &chatglm},
    named_scheme{"glm4", &glm4},
    named_scheme{"qwen2", &qwen2},
    named_scheme{"deepseek-r1-qwen", &qwen2},
    named_scheme{"stablelm2", &qwen2},
    named_scheme{"qwen35", &qwen35},
    named_scheme{"tekken", &tekken},
    named_scheme{"gpt-4o", &gpt4o},
    named_scheme{"llama4", &gpt4o},
    named_scheme{"deepseek-v3", &deepseek3},
    named_scheme{"hunyuan-dense", &deepseek3},
};

/// Spells out \s and \S as Unicode's White_Space. PCRE2's own \s also takes U+180E, which left that
/// property in Unicode 6.3 and which the references do not take.
std::string with_unicode_space(std::string_view expression) {
  constexpr std::string_view white_space = R"(\p{Z}\t-\r\x{85})";
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c != '\\') {
      if (c == '[' && !in_class) in_class = true;
      if (c == ']') in_class = false;
      out += c;
      continue;
    }
    const char escaped = expression[++i];
    if (escaped == 's') {
      out += in_class ? std::string(white_space) : fmt::format("[{}]", white_space);
    } else if (escaped == 'S') {
      QUIRE_CHECK(!in_class, "\\S in a character class has no spelling here");
      out += fmt::format("[^{}]", white_space);
    } else {
      out += {c, escaped};
    }
  }
  return out;
}

struct free_code {
  void operator()(pcre2_code* code) const noexcept { pcre2_code_free(code); }
};
using compiled_expression = std::unique_ptr<pcre2_code, free_code>;

compiled_expression compile(std::string_view expression) {
  const std::string pattern = with_unicode_space(expression);
  int code = 0;
  PCRE2_SIZE offset = 0;
  compiled_expression compiled(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                             pattern.size(), PCRE2_UTF | PCRE2_UCP, &code, &offset,
                                             nullptr));
  QUIRE_CHECK(compiled != nullptr, "a pre-tokenizer's expression does not compile");
  pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);  // without JIT it is only slower
  return compiled;
}

/// What PCRE2 needs per thread. Its limits are raised so that they are not met: the expressions
/// backtrack over at most one word and never recurse.
class match_state {
 public:
  match_state()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(32 * 1024, 1024 * 1024, nullptr)) {
    QUIRE_CHECK(data_ != nullptr && context_ != nullptr, "out of memory for PCRE2's match data");
    pcre2_set_match_limit(context_, std::numeric_limits<std::uint32_t>::max());
    if (stack_ != nullptr) pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  match_state(const match_state&) = delete;
  match_state& operator=(const match_state&) = delete;
  ~match_state() {
    if (stack_ != nullptr) pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }

  /// Finds the next match at or after `start`; false when there is none.
  bool find(const pcre2_code* code, std::string_view text, std::size_t start) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                       PCRE2_NO_UTF_CHECK, data_, context_) > 0;
  }
  std::size_t match_begin() const { return pcre2_get_ovector_pointer(data_)[0]; }
  std::size_t match_end() const { return pcre2_get_ovector_pointer(data_)[1]; }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

match_state& thread_match_state() {
  thread_local match_state state;
  return state;
}

/// A copy of a text with each byte that is not UTF-8 replaced by U+FFFD, and where its bytes came
/// from.
struct repaired_text {
  std::string text;
  std::vector<std::uint32_t> origins;  // by end offset in text: end offset in the original
};

repaired_text repair(std::string_view text) {
  repaired_text out;
  out.origins.push_back(0);
  for (std::size_t at = 0; at < text.size();) {
    const auto step = next_utf8(text.substr(at));
    const bool valid = step.state == utf8_state::valid;
    const std::size_t taken = valid ? step.size : 1;
    out.text += valid ? text.substr(at, taken) : std::string_view("\xef\xbf\xbd");
    at += taken;
    out.origins.resize(out.text.size() + 1, static_cast<std::uint32_t>(at));
  }
  return out;
}

}  // namespace

struct pre_tokenizer::impl {
  const scheme* what = nullptr;
  std::vector<compiled_expression> stages;

  void split(std::string_view text, std::size_t stage, std::uint32_t base,
             std::vector<std::uint32_t>& ends) const {
    const auto emit = [&](std::size_t begin, std::size_t end) {
      if (begin == end) return;
      if (stage + 1 < stages.size()) {
        split(text.substr(begin, end - begin), stage + 1, base + static_cast<std::uint32_t>(begin),
              ends);
      } else {
        ends.push_back(base + static_cast<std::uint32_t>(end));
      }
    };
    match_state& state = thread_match_state();
    std::size_t at = 0;
    while (at < text.size() && state.find(stages[stage].get(), text, at)) {
      const std::size_t begin = state.match_begin();
      const std::size_t end = state.match_end();
      emit(at, begin);
      emit(begin, end);
      at = end;
    }
    emit(at, text.size());
  }
};

pre_tokenizer::pre_tokenizer(std::unique_ptr<impl> state) : impl_(std::move(state)) {}
pre_tokenizer::pre_tokenizer(pre_tokenizer&&) noexcept = default;
pre_tokenizer& pre_tokenizer::operator=(pre_tokenizer&&) noexcept = default;
pre_tokenizer::~pre_tokenizer() = default;

result<pre_tokenizer> pre_tokenizer::make(std::string_view name) {
  const auto found = std::ranges::find(named_schemes, name, &named_scheme::name);
  if (found == named_schemes.end()) {
    std::string known;
    for (const auto& entry : named_schemes)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.name);
    return fail(
        errc::unsupported,
        fmt::format("the pre-tokenizer '{}' (tokenizer.ggml.pre) is not known; known are: {}", name,
                    known));
  }
  auto state = std::make_unique<impl>();
  state->what = found->what;
  for (const auto stage : found->what->stages)
    if (!stage.empty()) state->stages.push_back(compile(stage));
  return pre_tokenizer(std::move(state));
}

void pre_tokenizer::split(std::string_view text, std::vector<std::uint32_t>& ends) const {
  if (is_utf8(text)) return impl_->split(text, 0, 0, ends);
  const auto repaired = repair(text);
  const std::size_t before = ends.size();
  impl_->split(repaired.text, 0, 0, ends);
  for (std::size_t i = before; i < ends.size(); ++i) ends[i] = repaired.origins[ends[i]];
}

bool pre_tokenizer::ignore_merges() const noexcept {
  return impl_->what->ignore_merges;
}
bool pre_tokenizer::adds_bos() const noexcept {
  return impl_->what->adds_bos;
}

}  // namespace quire
