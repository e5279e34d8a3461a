// Time as the decision classes see it: an argument, never read from a clock.
#pragma once

#include <chrono>

namespace quire {

/// A point on the engine's monotonic clock; under CAF's test coordinator it is virtual.
using moment = std::chrono::steady_clock::time_point;

/// Returns the seconds from `from` to `to`.
inline double seconds_between(moment from, moment to) noexcept {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace quire
