// Does with a file's bytes what a program would, touching all that the reader hands out.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/check.hpp"
#include "models/gguf.hpp"
#include "models/tokenizer.hpp"

namespace quire::testing {

/// How far a file got.
struct exercise_outcome {
  bool opened = false;
  bool tokenized = false;
  unsigned touched = 0;  ///< a sum over all views, so that reading them is not optimised away
};

inline void touch(std::span<const std::byte> bytes, unsigned& sum) {
  for (const auto byte : bytes) sum += static_cast<unsigned>(byte);
}

inline void touch(std::string_view text, unsigned& sum) {
  for (const char c : text) sum += static_cast<unsigned char>(c);
}

/// Parses, reads every view, makes the tokenizer and encodes with it. Checks that every failure is
/// a refusal of the kind that the headers promise.
inline exercise_outcome exercise_gguf(std::span<const std::byte> bytes) {
  exercise_outcome outcome;
  const auto file = gguf_file::parse(bytes);
  if (!file) {
    QUIRE_CHECK(file.error().code == errc::invalid_file, "parse() refused with another code");
    QUIRE_CHECK(!file.error().message.empty(), "a refusal without a message");
    return outcome;
  }
  outcome.opened = true;
  for (const auto& entry : file->entries()) {
    touch(entry.key, outcome.touched);
    QUIRE_CHECK(file->find(entry.key) == &entry.value, "an entry is not found by its key");
    if (const auto* text = std::get_if<std::string_view>(&entry.value))
      touch(*text, outcome.touched);
    if (const auto* array = std::get_if<gguf_array>(&entry.value)) {
      touch(array->bytes, outcome.touched);
      for (const auto text : array->strings) touch(text, outcome.touched);
    }
  }
  for (const auto& tensor : file->tensors()) {
    touch(tensor.name, outcome.touched);
    touch(file->data(tensor), outcome.touched);
    QUIRE_CHECK(file->find_tensor(tensor.name) == &tensor, "a tensor is not found by its name");
    file->drop(tensor);
  }
  const auto words = load_tokenizer(*file);
  if (!words) {
    QUIRE_CHECK(words.error().code == errc::invalid_file || words.error().code == errc::unsupported,
                "load_tokenizer() refused with another code");
    return outcome;
  }
  outcome.tokenized = true;
  for (const std::string_view text :
       {"", "Hello, world 123!\n", "\xff\xe2\x96\x81<s> \xf0\x9f\x98\x80"}) {
    for (const bool special : {false, true}) {
      const auto ids = (*words)->encode(text, {.add_special = special, .parse_special = special});
      touch((*words)->decode(ids, special), outcome.touched);
      for (const auto id : ids)
        QUIRE_CHECK(to_index(id) < (*words)->vocabulary_size(), "an id outside of the vocabulary");
    }
  }
  return outcome;
}

}  // namespace quire::testing
