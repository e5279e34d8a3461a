// What a model file holds, what of it quire supports, and what is missing: the data of `quire
// inspect`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/gguf.hpp"

namespace quire {

/// The tensors of one type.
struct tensor_type_total {
  std::string name;        ///< "type N" when the type is unknown
  bool supported = false;  ///< whether quire can compute with it
  std::uint64_t num_tensors = 0;
  std::uint64_t num_values = 0;
  std::uint64_t size_bytes = 0;  ///< 0 for unknown types
};

struct model_report {
  std::string architecture;              ///< as the file names it; may be empty
  std::uint64_t num_parameters = 0;      ///< values of all tensors
  std::vector<tensor_type_total> types;  ///< in the order of their numbers
  std::vector<std::string> missing;  ///< what stands between this file and generation, as sentences
  bool supported() const noexcept { return missing.empty(); }
};

/// Examines an open file. Cost: that of loading its tokenizer.
model_report inspect_model(const gguf_file& file);

/// Returns the report, the metadata (of arrays the first elements) and the tensors as one object.
nlohmann::ordered_json to_json(const gguf_file& file, const model_report& report);

/// Returns the same as lines for people. Text of the file is escaped: it cannot steer a terminal.
std::string to_text(const gguf_file& file, const model_report& report);

}  // namespace quire
