#include "actors/actor_set.hpp"

#include <algorithm>
#include <caf/atom.hpp>

#include "actors/batcher.hpp"
#include "actors/cache_manager.hpp"
#include "actors/model_runner.hpp"

namespace quire {

namespace {

// Text work and decisions need little, the cores belong to the model runner; but a long prompt
// being tokenized must not stand in the way of the next step.
std::size_t workers(const actors_options& options) {
  return options.workers > 0 ? options.workers : 2;
}

park_ledger::limits park_limits(const kv_options& options, const kv_layout& layout) {
  if (layout.page_bytes == 0) return {};
  return {(std::uint64_t{options.park_memory_mib} << 20) / layout.page_bytes,
          (std::uint64_t{options.park_disk_mib} << 20) / layout.page_bytes};
}

result<std::unique_ptr<cache_accounts>> make_accounts(const engine_options& options,
                                                      const engine::parts& given,
                                                      const spawn_mode& how) {
  cache_accounts::options chosen;
  chosen.line.aging = std::chrono::milliseconds(options.scheduler.aging_ms);
  chosen.line.aging_tokens = options.scheduler.aging_ms;  // as if a token took a millisecond
  chosen.max_running = options.scheduler.max_streams;
  chosen.reclaim_timeout = std::chrono::milliseconds(options.scheduler.reclaim_timeout_ms);
  chosen.park = how.park.value_or(park_limits(options.kv, given.layout));
  chosen.prefix_cache = options.kv.prefix_cache;
  chosen.defragment = options.kv.defragment;
  chosen.idle = std::chrono::milliseconds(options.kv.idle_ms);
  chosen.min_pages = given.num_pages;  // a pool of an exact size stays as it is
  if (options.kv.pages == 0)
    chosen.min_pages = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((std::uint64_t{options.kv.min_mib} << 20) /
                                    std::max<std::size_t>(given.layout.page_bytes, 1),
                                given.num_pages));
  return cache_accounts::make(given.num_pages, given.layout.page_tokens, chosen);
}

// More than planning and leasing the next step takes.
constexpr std::chrono::microseconds awake_after_step{150};

}  // namespace

actor_config::actor_config(const actors_options& options) {
  add_message_types<caf::id_block::quire_actors>();
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", workers(options));
}

result<actor_set> spawn_actors(caf::actor_system& system, const engine_options& options,
                               engine::parts& given, spawn_mode how) {
  if (!given.executor || !given.vocabulary)
    return fail(errc::invalid_argument, "an engine needs an executor and a tokenizer");
  if (given.num_pages == 0)
    return fail(errc::invalid_argument, "an engine needs at least one page; raise kv.max_mib");
  if (given.card.context_tokens == 0)
    return fail(errc::invalid_argument, "a model with a context of 0 tokens cannot be served");
  auto accounts = make_accounts(options, given, how);
  if (!accounts) return tl::unexpected(accounts.error());
  actor_set set;
  auto executor = std::shared_ptr<step_executor>(std::move(given.executor));
  set.runner =
      how.detached
          ? system.spawn<caf::detached>(model_runner, std::move(executor), awake_after_step)
          : system.spawn(model_runner, std::move(executor), std::chrono::microseconds{0});
  set.manager = system.spawn(
      cache_manager, std::make_shared<std::unique_ptr<cache_accounts>>(std::move(*accounts)));
  set.batcher = system.spawn(batcher, set.manager, set.runner, given.vocabulary, options.scheduler);
  gateway_parts parts;
  parts.manager = set.manager;
  parts.batcher = set.batcher;
  parts.runner = set.runner;
  parts.vocabulary = given.vocabulary;
  parts.chat = given.chat;
  parts.bounds.context_tokens = given.card.context_tokens;
  parts.bounds.page_tokens = given.layout.page_tokens;
  parts.bounds.num_pages = given.num_pages;
  parts.bounds.budget_step_tokens = how.budget_step_tokens;
  parts.limits = {options.scheduler.max_queued_requests, options.scheduler.max_queued_tokens};
  set.gateway = system.spawn(gateway, std::move(parts));
  return set;
}

}  // namespace quire
