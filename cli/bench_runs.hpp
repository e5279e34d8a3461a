// The measurements of `quire bench`: each submits requests to the engine and times them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "actors/engine.hpp"
#include "cli/bench_prompts.hpp"
#include "core/error.hpp"

namespace quire::cli {

/// What one repeat measured, by the contract's key ("tok_s", "decode_tok_s", ...).
using measurement = std::map<std::string, double>;

struct streams_shape {
  std::uint32_t streams = 1;
  std::uint32_t prompt = 128;       ///< tokens per prompt
  std::uint32_t gen = 64;           ///< tokens per answer
  std::uint32_t shared_prefix = 0;  ///< leading prompt tokens that all streams share
  bool warm = false;                ///< compute the prompts beforehand: decoding alone is timed
};

class bench_runner {
 public:
  bench_runner(engine& model, word_prompts prompts)
      : engine_(model), prompts_(std::move(prompts)) {}

  /// Prompt tokens per second: submission to the first token of a prompt of `tokens` new tokens
  /// after `depth` tokens that are in the cache already.
  result<measurement> prefill(std::uint32_t tokens, std::uint32_t depth);
  /// Output tokens per second of one stream between its first and its last token, behind a prompt
  /// of `depth` tokens (at least one).
  result<measurement> decode(std::uint32_t tokens, std::uint32_t depth);
  /// Many streams at once. prefill_tok_s: prompt tokens per second until the last stream has its
  /// first token. decode_tok_s: output tokens per second from then to the end. total_tok_s: all
  /// prompt and output tokens over all the time.
  result<measurement> streams(const streams_shape& shape);

  /// Cancels what runs, from any thread; the measurement in progress then fails with `cancelled`.
  void cancel();

 private:
  struct request_result;
  result<std::vector<request_result>> run(std::vector<std::vector<token_id>> prompts,
                                          std::uint32_t max_tokens, bool use_prefix_cache);

  engine& engine_;
  word_prompts prompts_;
  std::mutex mutex_;
  bool cancelled_ = false;
  std::vector<request_id> running_;
};

/// Forgets the peak of the resident size so far, so that the next reading is of one test.
void reset_peak_rss();
/// Returns the largest resident size since the last reset, in MiB; 0 where /proc does not tell.
double peak_rss_mib();

}  // namespace quire::cli
