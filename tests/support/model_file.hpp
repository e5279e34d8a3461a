// Finds the model files that tests labelled `model` read. They are fetched by `./dev`, never by a
// test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace quire::testing {

inline constexpr const char* default_model_name = "smollm2-135m-instruct-q4_1.gguf";
inline constexpr const char* development_model_name = "gemma-3-270m-q4_k_m.gguf";

/// Returns where a model lies in the cache (QUIRE_CACHE, XDG_CACHE_HOME/quire or ~/.cache/quire),
/// or nullopt when it is not there.
inline std::optional<std::filesystem::path> find_model(const std::string& name) {
  std::filesystem::path cache;
  if (const char* own = std::getenv("QUIRE_CACHE"); own != nullptr && *own != '\0') {
    cache = own;
  } else if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0') {
    cache = std::filesystem::path(xdg) / "quire";
  } else if (const char* home = std::getenv("HOME"); home != nullptr) {
    cache = std::filesystem::path(home) / ".cache" / "quire";
  }
  const auto path = cache / "models" / name;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return std::nullopt;
  return path;
}

}  // namespace quire::testing
