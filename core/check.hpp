// QUIRE_CHECK: an invariant of ours, checked in every build. Never for what input can cause.
#pragma once

#include <string_view>

namespace quire {

/// Prints place, condition and message to stderr, then aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message) noexcept;

}  // namespace quire

/// Aborts with the place and a message when `condition` is false: a defect of quire.
#define QUIRE_CHECK(condition, message)                                 \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::quire::check_failed(__FILE__, __LINE__, #condition, (message)); \
  } while (false)
