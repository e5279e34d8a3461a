// Sends the log to standard error as the configuration asks.
#pragma once

#include <string_view>

namespace quire::cli {

/// Sets level (trace, debug, info, warn, error, off) and format (text or json) of the process's
/// log.
void set_up_logging(std::string_view level, std::string_view format);

}  // namespace quire::cli
