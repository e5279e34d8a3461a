#include "config/keys.hpp"

#include <algorithm>
#include <array>

namespace quire {
namespace {

constexpr auto not_yet = key_support::not_yet;
constexpr double max_mib = 16.0 * 1024 * 1024;  // 16 TiB
constexpr double max_ms = 24.0 * 3600 * 1000;   // a day
constexpr double max_count = 16777216;          // 2^24: exact in every number type used here

// One name per kv_type, in the enum's order.
constexpr std::array<std::string_view, 4> kv_names = {"f32", "f16", "q8", "q4"};
static_assert(static_cast<std::size_t>(kv_type::q4) + 1 == kv_names.size());

std::vector<config_key> make_keys() {
  using o = quire_options;
  using f = config_field;
  const std::vector<std::string_view> kv_choices(kv_names.begin(), kv_names.end());
  return {
      {"model.path", [](o& x) -> f { return &x.engine.model.path; },
       "GGUF file of the model; empty: the default model"},
      {"model.alias", [](o& x) -> f { return &x.engine.model.alias; },
       "further names that clients may use for the model"},
      {"model.context_tokens", [](o& x) -> f { return &x.engine.model.context_tokens; },
       "limit of one sequence in tokens; 0: the model's own", 0, max_count},

      {"server.host", [](o& x) -> f { return &x.server.host; }, "address to listen on"},
      {"server.port", [](o& x) -> f { return &x.server.port; },
       "TCP port; 0: the system chooses a free one", 0, 65535},
      {"server.api_keys_file",
       [](o& x) -> f { return &x.server.api_keys_file; },
       "file of API keys, one per line; empty: no key is asked for",
       0,
       0,
       {},
       not_yet},
      {"server.admin_key_file", [](o& x) -> f { return &x.server.admin_key_file; },
       "file of the key for the admin endpoints; empty: they are off"},
      {"server.cors_origins", [](o& x) -> f { return &x.server.cors_origins; },
       "origins that browsers may call from; \"*\" allows any"},
      {"server.max_body_bytes", [](o& x) -> f { return &x.server.max_body_bytes; },
       "largest request body", 1024, 1073741824},
      {"server.request_timeout_ms", [](o& x) -> f { return &x.server.request_timeout_ms; },
       "deadline of a request that names none", 1, max_ms},
      {"server.drain_timeout_ms", [](o& x) -> f { return &x.server.drain_timeout_ms; },
       "how long running requests may finish at shutdown", 0, max_ms},
      {"server.tls_cert",
       [](o& x) -> f { return &x.server.tls_cert; },
       "PEM file of the certificate chain; needs tls_key",
       0,
       0,
       {},
       not_yet},
      {"server.tls_key",
       [](o& x) -> f { return &x.server.tls_key; },
       "PEM file of the private key; needs tls_cert",
       0,
       0,
       {},
       not_yet},

      {"kv.type", [](o& x) -> f { return &x.kv; },
       "how keys and values are stored: f32, f16, q8, q4 (q8 keys, q4 values), or K/V as in q4/q4"},
      {"kv.type_k", [](o& x) -> f { return &x.engine.kv.type_k; },
       "how keys are stored, if not as kv.type says", 0, 0, kv_choices},
      {"kv.type_v", [](o& x) -> f { return &x.engine.kv.type_v; },
       "how values are stored, if not as kv.type says", 0, 0, kv_choices},
      {"kv.page_tokens", [](o& x) -> f { return &x.engine.kv.page_tokens; }, "tokens per page", 1,
       4096},
      {"kv.min_mib", [](o& x) -> f { return &x.engine.kv.min_mib; },
       "memory that the page pool keeps when idle", 1, max_mib},
      {"kv.max_mib", [](o& x) -> f { return &x.engine.kv.max_mib; },
       "memory that the page pool may grow to", 1, max_mib},
      {"kv.pages", [](o& x) -> f { return &x.engine.kv.pages; },
       "exact pool size in pages instead of min_mib and max_mib; 0: by MiB", 0, 2147483647},
      {"kv.prefix_cache", [](o& x) -> f { return &x.engine.kv.prefix_cache; },
       "whether requests share the pages of equal beginnings"},
      {"kv.idle_ms", [](o& x) -> f { return &x.engine.kv.idle_ms; },
       "time without a request coming or going, after which the pool shrinks to min_mib", 1,
       max_ms},
      {"kv.park_memory_mib", [](o& x) -> f { return &x.engine.kv.park_memory_mib; },
       "memory for the pages of requests that had to give way; 0: none", 0, max_mib},
      {"kv.park_disk_mib", [](o& x) -> f { return &x.engine.kv.park_disk_mib; },
       "disk space for such pages when that memory is full; 0: none", 0, max_mib},
      {"kv.park_dir", [](o& x) -> f { return &x.engine.kv.park_dir; },
       "directory for them; empty: $TMPDIR, or /var/tmp"},
      {"kv.defragment.threshold", [](o& x) -> f { return &x.engine.kv.defragment.threshold; },
       "fragmentation ratio above which pages are moved", 0, 1},
      {"kv.defragment.max_moves_per_step",
       [](o& x) -> f { return &x.engine.kv.defragment.max_moves_per_step; },
       "pages moved between two steps at most; 0: none while busy", 0, 65536},
      {"kv.defragment.idle", [](o& x) -> f { return &x.engine.kv.defragment.idle; },
       "whether to defragment when nothing runs"},

      {"scheduler.max_streams", [](o& x) -> f { return &x.engine.scheduler.max_streams; },
       "sequences in one step at most", 1, 65536},
      {"scheduler.max_queued_requests",
       [](o& x) -> f { return &x.engine.scheduler.max_queued_requests; },
       "waiting requests before new ones get a 429", 1, max_count},
      {"scheduler.max_queued_tokens",
       [](o& x) -> f { return &x.engine.scheduler.max_queued_tokens; },
       "prompt tokens of all waiting requests before new ones get a 429", 1, 2147483647},
      {"scheduler.step_tokens", [](o& x) -> f { return &x.engine.scheduler.step_tokens; },
       "prompt tokens computed in one step at most", 1, 1048576},
      {"scheduler.step_time_ms", [](o& x) -> f { return &x.engine.scheduler.step_time_ms; },
       "time that a step, or twice its decoding, should not exceed; prompts are cut accordingly", 1,
       60000},
      {"scheduler.reclaim_timeout_ms",
       [](o& x) -> f { return &x.engine.scheduler.reclaim_timeout_ms; },
       "how long a request may think before its pages are taken", 1, 60000},
      {"scheduler.aging_ms", [](o& x) -> f { return &x.engine.scheduler.aging_ms; },
       "waiting time that raises a request's priority by one", 1, max_ms},

      {"compute.threads", [](o& x) -> f { return &x.engine.compute.threads; },
       "compute threads; 0: one per core", 0, 4096},
      {"compute.isa",
       [](o& x) -> f { return &x.engine.compute.isa; },
       "instruction set of the kernels; one that the machine lacks is an error",
       0,
       0,
       {"auto", "scalar", "avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx", "amx_software",
        "amx_plain"}},
      {"compute.pin_threads",
       [](o& x) -> f { return &x.engine.compute.pin_threads; },
       "whether each compute thread stays on one core",
       0,
       0,
       {},
       not_yet},
      {"compute.huge_pages",
       [](o& x) -> f { return &x.engine.compute.huge_pages; },
       "whether weights and KV pages ask for huge memory pages; auto: where they are large",
       0,
       0,
       {"auto", "on", "off"}},
      {"compute.batch_invariant", [](o& x) -> f { return &x.engine.compute.batch_invariant; },
       "whether logits are bit-identical whatever shares the batch"},

      {"sampling.temperature", [](o& x) -> f { return &x.engine.sampling.temperature; },
       "default of requests that name none; 0: greedy", 0, 100},
      {"sampling.top_k", [](o& x) -> f { return &x.engine.sampling.top_k; },
       "keep the most likely tokens; 0: off", 0, max_count},
      {"sampling.top_p", [](o& x) -> f { return &x.engine.sampling.top_p; },
       "keep the tokens that hold this share of the probability; 1: off", 1e-6, 1},
      {"sampling.min_p", [](o& x) -> f { return &x.engine.sampling.min_p; },
       "drop tokens less likely than this share of the best; 0: off", 0, 1},
      {"sampling.repetition_penalty",
       [](o& x) -> f { return &x.engine.sampling.repetition_penalty; },
       "divides the chance of tokens already seen; 1: off", 0.01, 100},

      {"actors.workers", [](o& x) -> f { return &x.engine.actors.workers; },
       "threads of the actor system; 0: chosen from the cores", 0, 4096},

      {"log.level",
       [](o& x) -> f { return &x.log.level; },
       "least severe message to write",
       0,
       0,
       {"trace", "debug", "info", "warn", "error", "off"}},
      {"log.format",
       [](o& x) -> f { return &x.log.format; },
       "text, or JSON lines",
       0,
       0,
       {"text", "json"}},
  };
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string_view last_part(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

}  // namespace

std::span<const config_key> config_keys() {
  static const std::vector<config_key> keys = make_keys();
  return keys;
}

const config_key* find_config_key(std::string_view name) {
  for (const config_key& key : config_keys())
    if (key.name == name) return &key;
  return nullptr;
}

std::string environment_name(const config_key& key) {
  std::string name = "QUIRE_";
  for (const char c : key.name)
    name += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return name;
}

std::string nearest_key_name(std::string_view wrong) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, wrong.size() / 4) + 1;
  const auto consider = [&](std::string_view candidate, std::size_t distance) {
    if (distance < best_distance) best_distance = distance, best = candidate;
  };
  for (const config_key& key : config_keys()) {
    consider(key.name, edit_distance(wrong, key.name));
    // A right key in the wrong group, or in none, counts as one edit more than its spelling.
    if (last_part(wrong).size() > 2)
      consider(key.name, edit_distance(last_part(wrong), last_part(key.name)) + 1);
    for (std::size_t dot = key.name.find('.'); dot != std::string_view::npos;
         dot = key.name.find('.', dot + 1)) {
      const std::string_view group = key.name.substr(0, dot);
      consider(group, edit_distance(wrong, group));
    }
  }
  return best;
}

}  // namespace quire
