// Text to token ids and back, exactly as the model's reference tokenizer does it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/ids.hpp"
#include "models/gguf.hpp"

namespace quire {

struct encode_options {
  bool add_special = false;    ///< add BOS / EOS where the model's file says so
  bool parse_special = false;  ///< recognise control tokens written out in the text
};

class tokenizer {
 public:
  virtual ~tokenizer() = default;

  /// Encodes any bytes; never fails (bytes that are not UTF-8 become byte tokens or the unknown
  /// token). Thread-safe. Cost: O(n log n) in the length of the text.
  virtual std::vector<token_id> encode(std::string_view text, encode_options options) const = 0;

  /// Returns the bytes that a token stands for when generated; control tokens give nothing unless
  /// `with_special`. May be part of a UTF-8 sequence.
  virtual std::string_view bytes(token_id token, bool with_special = false) const = 0;

  /// Joins the bytes of tokens, without the space that some models put before the first word.
  virtual std::string decode(std::span<const token_id> tokens, bool with_special = false) const = 0;

  virtual std::size_t vocabulary_size() const noexcept = 0;
  /// The token's text as written in the file.
  virtual std::string_view piece(token_id token) const = 0;
  virtual bool is_control(token_id token) const = 0;
  /// Whether generation ends at this token (EOS, EOT, end of turn).
  virtual bool is_end(token_id token) const = 0;
  virtual bool adds_bos() const noexcept = 0;
  virtual std::optional<token_id> bos() const noexcept = 0;
  virtual std::optional<token_id> eos() const noexcept = 0;
};

/// Makes the tokenizer that the file's metadata describes. Errors: invalid_file (contradictions),
/// unsupported (naming the tokenizer model or pre-tokenizer that is missing).
result<std::unique_ptr<tokenizer>> load_tokenizer(const gguf_file& file);

/// Turns a stream of tokens into text that never splits a UTF-8 sequence.
class detokenizer {
 public:
  explicit detokenizer(const tokenizer& vocabulary) : vocabulary_(&vocabulary) {}
  /// Returns the text that became complete with this token; may be empty.
  std::string push(token_id token);
  /// Returns what is left at the end, incomplete sequences as U+FFFD.
  std::string finish();

 private:
  const tokenizer* vocabulary_;
  std::string pending_;
};

}  // namespace quire
