#include "actors/status.hpp"

namespace quire {

engine_status join_status(const gateway_status& door, const cache_status& cache,
                          const batcher_status& batch, const kv_layout& layout) {
  engine_status now;
  now.requests_waiting = static_cast<std::uint32_t>(door.waiting);
  now.requests_running = static_cast<std::uint32_t>(door.running);
  now.page_tokens = layout.page_tokens;
  now.page_bytes = layout.page_bytes;
  now.kv_bytes_per_token = layout.token_bytes();
  now.kv = {layout.type_k, layout.type_v};
  now.total_pages = cache.total_pages;
  now.reserved_pages = cache.reserved_pages;
  now.parked_memory_pages = cache.parked_memory_pages;
  now.parked_disk_pages = cache.parked_disk_pages;
  now.store = cache.store;
  now.fragmentation = cache.fragmentation;
  now.prefix = cache.prefix;
  now.counters = {
      {"submitted", door.submitted},
      {"refused", door.refused},
      {"finished", door.finished},
      {"cancelled", door.cancelled},
      {"failed", door.failed},
      {"offers", cache.counts.offers},
      {"counter_offers", cache.counts.counter_offers},
      {"refusals", cache.counts.refusals},
      {"extensions", cache.counts.extensions},
      {"denied_extensions", cache.counts.denied_extensions},
      {"smaller_offers", cache.counts.smaller_offers},
      {"reclaims", cache.counts.reclaims},
      {"refused_yields", cache.counts.refused_yields},
      {"silent_yields", cache.counts.silent_yields},
      {"parks", cache.counts.parks},
      {"parks_to_disk", cache.counts.parks_to_disk},
      {"park_overflows", cache.counts.park_overflows},
      {"failed_parks", cache.counts.failed_parks},
      {"resumes", cache.counts.resumes},
      {"recomputes", cache.counts.recomputes},
      {"expired_offers", cache.counts.expired_offers},
      {"prefix_waits", cache.counts.prefix_waits},
      {"evictions", cache.prefix.evictions},
      {"page_copies", cache.counts.page_copies},
      {"page_moves", cache.store.pages_moved},
      {"denied_leases", cache.counts.denied_leases},
      {"lost_sequences", cache.counts.lost_sequences},
      {"pauses", door.pauses},
      {"unpauses", door.unpauses},
      {"steps", batch.counts.steps},
      {"failed_steps", batch.counts.failed_steps},
      {"prompt_tokens", door.prompt_tokens},
      {"cached_tokens", cache.counts.cached_tokens},
      {"prefilled_tokens", batch.counts.prefilled_tokens},
      {"generated_tokens", batch.counts.generated_tokens},
      {"trimmed_bytes", batch.counts.trimmed_bytes},
      {"surplus_tokens", batch.counts.surplus_tokens},
  };
  now.seconds = batch.seconds;
  return now;
}

}  // namespace quire
