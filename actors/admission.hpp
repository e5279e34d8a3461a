// Whether a new request may join the queue: limits in requests and in prompt tokens, and for those
// turned away a guess when to come back, from the speed at which the queue has been moving. Pure.
#pragma once

#include <cstdint>
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

  /// Lets a request into the queue. Errors: queue_full (with retry_after_ms), unavailable (closed).
  result<void> enter(request_id request, moment now);
  /// Adds its prompt's length, once known. A request that waits alone may be of any length. Errors:
  /// queue_full; the request is then out of the queue.
  result<void> weigh(request_id request, std::uint32_t prompt_tokens, moment now);
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
  /// Milliseconds until the present queue will have gone, at the speed of late.
  std::uint64_t retry_after_ms(moment now) const;

 private:
  tl::unexpected<error> full(const char* what, std::uint64_t limit, moment now);

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
