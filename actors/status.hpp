// What each actor says about itself, and all of it added up for the outside.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "actors/cache_accounts.hpp"
#include "actors/engine.hpp"
#include "actors/running_batch.hpp"

namespace quire {

struct batcher_status {
  running_batch::counters counts;
  std::uint64_t sequences = 0;
  std::vector<std::pair<std::string, double>> seconds;
};

struct cache_status {
  store_stats store;
  fragmentation_stats fragmentation;
  prefix_stats prefix;
  cache_counters counts;
  std::uint64_t total_pages = 0;
  std::uint64_t reserved_pages = 0;
  std::uint64_t waiting = 0;
  std::uint64_t parked_memory_pages = 0;
  std::uint64_t parked_disk_pages = 0;
  std::string
      defect;  ///< what breaks an invariant, when the status asked for the check; else empty
};

struct gateway_status {
  std::uint64_t waiting = 0;
  std::uint64_t running = 0;
  std::uint64_t submitted = 0;
  std::uint64_t refused = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t failed = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t pauses = 0;    ///< readers that were too slow
  std::uint64_t unpauses = 0;  ///< and that caught up
};

/// Adds up the status of the actors.
engine_status join_status(const gateway_status& door, const cache_status& cache,
                          const batcher_status& batch, const kv_layout& layout);

}  // namespace quire
