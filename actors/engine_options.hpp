// Options of the engine, with the defaults that config/default.yaml documents.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compute/kv_layout.hpp"
#include "models/sampling.hpp"

namespace quire {

struct model_options {
  std::string path;                  ///< file; empty: the default model
  std::vector<std::string> alias;    ///< names that clients may use for it
  std::uint32_t context_tokens = 0;  ///< 0: the model's own
};

struct defragment_options {
  double threshold = 0.3;
  std::uint32_t max_moves_per_step = 8;
  bool idle = true;
};

struct kv_options {
  kv_type type_k = kv_type::q8;
  kv_type type_v = kv_type::q8;
  std::uint32_t page_tokens = 16;
  std::uint32_t min_mib = 16;
  std::uint32_t max_mib = 1024;
  std::uint32_t pages = 0;  ///< exact pool size in pages instead of min/max; 0: by MiB
  bool prefix_cache = true;
  std::uint32_t idle_ms = 5000;  ///< without a request coming or going, until memory is given back
  std::uint32_t park_memory_mib = 256;  ///< pages of paused requests outside the pool, in memory
  std::uint32_t park_disk_mib = 1024;   ///< and, when that is full, on disk
  std::string park_dir;                 ///< where; empty: $TMPDIR, or /var/tmp
  defragment_options defragment;
};

struct scheduler_options {
  std::uint32_t max_streams = 256;  ///< sequences in one step
  std::uint32_t max_queued_requests = 1024;
  std::uint32_t max_queued_tokens = 262144;
  std::uint32_t step_tokens = 512;  ///< prefill budget of one step
  std::uint32_t step_time_ms = 50;
  std::uint32_t reclaim_timeout_ms = 20;
  std::uint32_t aging_ms = 2000;
};

struct compute_options {
  std::uint32_t threads = 0;  ///< 0: one per core
  std::string isa = "auto";
  bool pin_threads = false;
  std::string huge_pages = "auto";  ///< or "on", "off": core/huge_pages.hpp
  bool batch_invariant = false;
};

struct actors_options {
  std::uint32_t workers = 0;  ///< CAF worker threads; 0: chosen
};

struct engine_options {
  model_options model;
  kv_options kv;
  scheduler_options scheduler;
  compute_options compute;
  sampling_params sampling;
  actors_options actors;
};

}  // namespace quire
