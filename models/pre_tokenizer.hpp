// Cuts text into words before byte-pair merging, by the regular expressions that a model was
// trained with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"

namespace quire {

class pre_tokenizer {
 public:
  /// Makes the one that tokenizer.ggml.pre names. Errors: unsupported, listing the known names.
  static result<pre_tokenizer> make(std::string_view name);
  pre_tokenizer(pre_tokenizer&&) noexcept;
  pre_tokenizer& operator=(pre_tokenizer&&) noexcept;
  ~pre_tokenizer();

  /// Appends the end offset of every word of a UTF-8 text to `ends`; the words cover the text.
  /// Bytes that are not UTF-8 count as U+FFFD, a symbol. Thread-safe.
  void split(std::string_view text, std::vector<std::uint32_t>& ends) const;

  /// Whether a word that is a token stays whole, even where merging would not lead to it.
  bool ignore_merges() const noexcept;

  /// Whether such models begin a text with BOS when their file does not say.
  bool adds_bos() const noexcept;

 private:
  struct impl;
  explicit pre_tokenizer(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

}  // namespace quire
