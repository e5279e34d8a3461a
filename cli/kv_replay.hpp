// Replays a trace of operations on the paged store: one JSON object in, one out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compute/kernels.hpp"
#include "compute/kv_layout.hpp"
#include "core/error.hpp"
#include "memory/page_pool.hpp"
#include "memory/page_store.hpp"

namespace quire::cli {

/// A store with real page bytes, driven by the lines of a trace.
class kv_replay {
 public:
  /// Makes the store that the trace's first line describes. Errors: invalid_argument, io_error.
  static result<kv_replay> make(std::string_view first_line);

  /// Returns the answer to the first line: the store's size, and what a page takes.
  nlohmann::ordered_json description() const;

  /// Performs the operation of one line and returns the answer, {"ok": ...}; a refusal by the store
  /// is an answer too. Errors: invalid_argument (the line is malformed).
  result<nlohmann::ordered_json> perform(std::string_view line);

 private:
  using json = nlohmann::ordered_json;

  kv_replay(page_store store, const kv_layout& layout, const kernel_table& kernels);

  // Each group answers the operations it knows, and nothing for others.
  std::optional<json> change(const std::string& op, const json& line);
  std::optional<json> look(const std::string& op, const json& line);
  std::optional<json> rearrange(const std::string& op, const json& line);
  std::optional<json> access_row(const std::string& op, const json& line);

  result<void> encode(const json& line, std::vector<std::byte>& row) const;
  json get(const json& line, page_id page, std::uint64_t position);
  std::byte* row_of(const json& line, page_id page, std::uint64_t position);
  json statistics() const;
  json memory() const;
  void apply(const std::vector<page_copy>& copies);
  sequence_id sequence(const json& line) const;
  json bind(const json& line, const result<sequence_id>& made);

  page_store store_;
  kv_layout layout_;
  const kernel_table* kernels_;
  std::optional<page_pool> pool_;  // none when there are no pages
  std::map<std::string, sequence_id> names_;
};

}  // namespace quire::cli
