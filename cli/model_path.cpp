#include "cli/model_path.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <system_error>
#include <vector>

namespace quire::cli {
namespace {

namespace fs = std::filesystem;

struct known_model {
  std::string_view name;
  std::string_view file;
  std::string_view fetch;  ///< what puts it into the cache
};

constexpr std::array known_models{
    known_model{"smollm2-135m-instruct", "smollm2-135m-instruct-q4_1.gguf", "./dev model"},
    known_model{"gemma-3-270m", "gemma-3-270m-q4_k_m.gguf", "./dev model gemma"},
};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string{value};
}

std::string names_in_cache() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(models_directory(), ignored))
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  if (names.empty()) return "none yet";
  std::ranges::sort(names);
  return fmt::format("{}", fmt::join(names, ", "));
}

result<fs::path> from_cache(std::string_view name) {
  const fs::path directory = models_directory();
  std::error_code ignored;
  for (const known_model& known : known_models) {
    if (name != known.name && name != fs::path(known.file).stem().string()) continue;
    const fs::path file = directory / known.file;
    if (fs::is_regular_file(file, ignored)) return file;
    return fail(errc::not_found, fmt::format("model '{}' is not in the cache ({}); fetch it with "
                                             "`{}`, or give a GGUF file with -m",
                                             known.name, file.string(), known.fetch));
  }
  const fs::path file = directory / fmt::format("{}.gguf", name);
  if (fs::is_regular_file(file, ignored)) return file;
  return fail(errc::not_found, fmt::format("no file and no known model '{}'; models in {}: {}",
                                           name, directory.string(), names_in_cache()));
}

}  // namespace

fs::path models_directory() {
  if (const std::string quire = environment("QUIRE_CACHE"); !quire.empty())
    return fs::path(quire) / "models";
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty())
    return fs::path(xdg) / "quire" / "models";
  return fs::path(environment("HOME")) / ".cache" / "quire" / "models";
}

result<fs::path> resolve_model(std::string_view model) {
  if (model.empty()) return from_cache(known_models.front().name);
  const fs::path path{model};
  std::error_code error;
  if (fs::is_directory(path, error))
    return fail(errc::unsupported,
                fmt::format("{}: is a directory; safetensors models are not read yet, give a GGUF "
                            "file",
                            model));
  if (fs::exists(path, error)) return path;
  const bool looks_like_path =
      model.find('/') != std::string_view::npos || path.extension() == ".gguf";
  if (looks_like_path) return fail(errc::io_error, fmt::format("{}: no such file", model));
  return from_cache(model);
}

}  // namespace quire::cli
