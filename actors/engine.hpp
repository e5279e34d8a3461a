// quire as a library: load a model once, generate for many callers at once.
//
//   auto engine = quire::engine::load(options);
//   auto id = (*engine)->submit(request, listener);
//
// The facade hides the actors: nothing of CAF is visible here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "actors/engine_options.hpp"
#include "actors/generation.hpp"
#include "core/error.hpp"
#include "memory/page_store.hpp"
#include "memory/prefix_index.hpp"

namespace quire {

class tokenizer;
class chat_template;
class step_executor;

/// What the loaded model is, for /v1/models, inspect and limits.
struct model_card {
  std::string id;  ///< name for clients, from the file or model.alias
  std::string architecture;
  std::string weights_type;  ///< the type of most weights, for example "Q4_1"
  std::uint64_t num_parameters = 0;
  std::uint64_t file_bytes = 0;
  std::uint32_t context_tokens = 0;  ///< limit of one sequence
  std::uint32_t vocabulary_size = 0;
  std::string isa;
  std::uint32_t threads = 0;
  bool has_chat_template = false;
};

/// A snapshot of what the engine holds and has done.
struct engine_status {
  std::uint32_t requests_waiting = 0;  ///< submitted, no pages granted yet
  std::uint32_t requests_running = 0;  ///< holding a sequence
  std::uint32_t page_tokens = 0;
  std::uint64_t page_bytes = 0;
  std::uint64_t kv_bytes_per_token = 0;
  kv_types kv;  ///< how keys and values are stored
  std::uint64_t total_pages = 0;
  std::uint64_t reserved_pages = 0;       ///< promised to running requests, not all in use yet
  std::uint64_t parked_memory_pages = 0;  ///< outside the pool: of requests that gave way to others
  std::uint64_t parked_disk_pages = 0;
  store_stats store;
  fragmentation_stats fragmentation;
  prefix_stats prefix;
  /// Counters since start, by stable snake_case name: offers, counter_offers, refusals, steps,
  /// prompt_tokens, prefilled_tokens, generated_tokens, cancelled, finished, failed, ...
  std::vector<std::pair<std::string, std::uint64_t>> counters;
  /// Seconds spent since start: copy, forward, sample, exchange (parking) in the model runner;
  /// planning (leases included) and transit (messages to and from the runner) outside it; idle.
  std::vector<std::pair<std::string, double>> seconds;
};

class engine {
 public:
  /// Loads the model and starts the actors. Errors: io_error, invalid_file, unsupported,
  /// invalid_argument (options that cannot work together).
  static result<std::unique_ptr<engine>> load(const engine_options& options);

  /// Starts the actors over a given executor and tokenizer (tests, simulations).
  struct parts {
    std::unique_ptr<step_executor> executor;
    std::shared_ptr<const tokenizer> vocabulary;
    std::shared_ptr<const chat_template> chat;  ///< may be null
    model_card card;
    kv_layout layout;
    std::uint32_t num_pages = 0;
  };
  static result<std::unique_ptr<engine>> start(const engine_options& options, parts given);

  virtual ~engine() = default;

  /// Starts a generation; never blocks. Everything, refusals included, arrives at the listener.
  virtual request_id submit(generation_request request,
                            std::shared_ptr<generation_listener> listener) = 0;
  /// Ends a request; its pages are free within one step. Unknown or finished ids are ignored.
  virtual void cancel(request_id id) = 0;
  /// The caller's buffer for this request is full: it computes nothing until it is resumed, and its
  /// pages are the first to be parked when others need them. Events of steps that are under way
  /// still arrive: at most two tokens per choice. Unknown or finished ids are ignored.
  virtual void pause(request_id id) = 0;
  /// The buffer has room again: the request goes on exactly where it was.
  virtual void resume(request_id id) = 0;
  /// Returns a snapshot. Blocks for at most a step. Errors: unavailable (stopped), internal.
  virtual result<engine_status> status() = 0;
  /// Verifies the invariants of the page store and that every promise of pages can be kept. Errors:
  /// internal (naming what is broken), unavailable (stopped). O(pages).
  virtual result<void> check() = 0;
  /// Refuses new requests (unavailable), waits up to `timeout` for running ones, then cancels the
  /// rest. Returns whether all finished by themselves.
  virtual bool drain(std::chrono::milliseconds timeout) = 0;

  virtual const model_card& card() const noexcept = 0;
  virtual const tokenizer& vocabulary() const noexcept = 0;
  /// Null when the model carries no template.
  virtual const chat_template* chat() const noexcept = 0;
};

}  // namespace quire
