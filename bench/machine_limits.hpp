// What the machine can do at most, measured in the same run as the benchmarks that are compared
// with it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "compute/arena.hpp"

namespace quire::bench {

/// Returns seconds for differences: of this thread's processor time when it computes alone, so that
/// other work on the machine counts less, else of wall time.
double bench_seconds(const arena& threads);

/// Returns the bytes per second that the threads read from memory beyond the caches.
double stream_read_limit(arena& threads);

/// The multiply-accumulate peak of a dot product.
struct dot_peak {
  std::string instruction;  ///< "vpdpbusd zmm", "tdpbf16ps", ..., or "none"
  double macs_per_second = 0.0;
};

/// Returns the peak over all threads of the widest int8 dot product of an ISA; of the machine's, if
/// the name is empty or one of an emulation.
dot_peak dot_product_peak(arena& threads, std::string_view isa = {});

/// Returns the peak of AMX's bfloat16 product; "none" where the machine lacks it.
dot_peak tile_peak(arena& threads);

}  // namespace quire::bench
