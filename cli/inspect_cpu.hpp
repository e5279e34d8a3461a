// `quire inspect --cpu`.
#pragma once

#include <string>

#include "core/error.hpp"

namespace quire::cli {

/// Prints the processor's features, the instruction sets that kernels exist for, and which kernels
/// of `isa` (as compute.isa) run for each tensor type and number of rows. Errors: as
/// select_kernels().
result<int> inspect_cpu(const std::string& isa, bool as_json);

}  // namespace quire::cli
