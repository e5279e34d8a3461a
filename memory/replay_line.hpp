// One line of a replay trace as plain fields, and the writer of its answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"

namespace quire {

/// The fields that any line may have; those that it does not have are empty.
struct replay_line {
  std::optional<std::string> op, as, seq, what, type, k_type, v_type;
  std::optional<std::uint64_t> tokens, pos, head, layer, max_moves;
  std::optional<std::uint64_t> pages, page_tokens, layers, kv_heads, head_dim;
  std::optional<double> threshold;
  std::optional<std::vector<float>> values;

  /// Parses a JSON object of these fields; unknown ones are ignored. Errors: invalid_argument
  /// saying what is wrong, without the line's number.
  static result<replay_line> parse(std::string_view text);
};

/// Builds one JSON object, key by key, at the end of a string.
class replay_answer {
 public:
  replay_answer(std::string& out, bool ok);
  ~replay_answer();
  replay_answer(const replay_answer&) = delete;
  replay_answer& operator=(const replay_answer&) = delete;

  replay_answer& add(std::string_view key, std::uint64_t value);
  replay_answer& add(std::string_view key, double value);
  replay_answer& add(std::string_view key, bool value);
  replay_answer& add(std::string_view key, std::string_view text);
  replay_answer& add(std::string_view key, const std::vector<float>& values);
  replay_answer& add(std::string_view key, const std::vector<std::uint64_t>& values);
  replay_answer& add(std::string_view key, const char*) = delete;  // would become a bool

 private:
  void key(std::string_view name);
  std::string& out_;
};

}  // namespace quire
