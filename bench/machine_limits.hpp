// What the machine can do at most, measured in the same run as the benchmarks that are compared with it.
#pragma once

#include <cstddef>
#include <string>

#include "compute/arena.hpp"

namespace quire::bench {

/// Returns the bytes per second that the threads read from memory beyond the caches.
double stream_read_limit(arena& threads);

/// The multiply-accumulate peak of the widest int8 dot product that is available.
struct dot_peak {
  std::string instruction;  ///< "vpdpbusd zmm", "vpmaddubsw ymm", or "none"
  double macs_per_second = 0.0;
};

/// Returns the peak over all threads.
dot_peak dot_product_peak(arena& threads);

}  // namespace quire::bench
