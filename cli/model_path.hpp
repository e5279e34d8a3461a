// Finds the file that a user means by `-m`: a path, a name in the cache, or nothing at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace quire::cli {

/// Returns the directory of downloaded models: $QUIRE_CACHE/models, by default
/// ${XDG_CACHE_HOME:-~/.cache}/quire/models.
std::filesystem::path models_directory();

/// Returns the file for a path or a known name; empty means the default model. Errors: io_error (no
/// such file), not_found (neither a file nor a name in the cache; says what is there and how to
/// fetch), unsupported (a directory: safetensors is not read yet).
result<std::filesystem::path> resolve_model(std::string_view model);

}  // namespace quire::cli
