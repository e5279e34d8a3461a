// Whether a new request may join the queue: limits in requests and in prompt tokens, and for those
// turned away a guess when there will be room for one more. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "actors/moment.hpp"
#include "core/error.hpp"
#include "core/ids.hpp"

namespace quire {

class admission {
 public:
  struct limits {
    std::uint32_t max_queued_requests = 1024;
    std::uint32_t max_queued_tokens = 262144;
  };

  explicit admission(limits chosen) : limits_(chosen) {}

  /// Lets a request into the queue. Errors: queue_full (to be completed by come_back), unavailable
  /// (closed).
  result<void> enter(request_id request);
  /// Adds its prompt's length, once known. A request that waits alone may be of any length. Errors:
  /// queue_full (the same); the request is then out of the queue.
  result<void> weigh(request_id request, std::uint32_t prompt_tokens);
  /// Completes the error queue_full by the milliseconds until there will be room, which are its
  /// first number. `next_departure`: seconds until a running request ends and one of the queue
  /// starts, if somebody can tell; the rest goes by the speed at which the queue has been moving.
  error come_back(error full, moment now, std::optional<double> next_departure) const;
  /// It was granted pages: out of the queue. Unknown or started ones are ignored.
  void start(request_id request, moment now);
  /// It is gone, from wherever it was.
  void leave(request_id request);
  /// From now on nobody enters.
  void close() noexcept { closed_ = true; }

  bool closed() const noexcept { return closed_; }
  std::size_t waiting() const noexcept { return queue_.size(); }
  std::uint64_t waiting_tokens() const noexcept { return queued_tokens_; }
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  tl::unexpected<error> full(const char* what, std::uint64_t limit, std::uint64_t starts);
  std::optional<double> seconds_per_start(moment now) const;

  limits limits_;
  std::unordered_map<request_id, std::uint32_t> queue_;  ///< prompt tokens of each, 0: not known
  std::uint64_t queued_tokens_ = 0;
  std::uint64_t refused_ = 0;
  bool closed_ = false;
  double recent_starts_ = 0;  ///< exponentially forgotten
  moment last_start_{};
  moment first_start_{};
};

}  // namespace quire
