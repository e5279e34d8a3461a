// Reads what a command works on.
#pragma once

#include <string>

#include "core/error.hpp"

namespace quire::cli {

/// Returns all bytes of a file, or of standard input when the name is "-". Errors: io_error.
result<std::string> read_input(const std::string& name);

}  // namespace quire::cli
