// When the next of the running sequences will probably have ended, from how such sequences ended
// before. Pure.
#pragma once

#include <cstdint>
#include <optional>

namespace quire {

class departures {
 public:
  /// A step ended `seconds` after the one before it.
  void stepped(double seconds);
  /// A sequence ended by itself after `produced` of the `allowed` tokens (> 0).
  void ended(std::uint32_t produced, std::uint32_t allowed);
  /// Seconds until a sequence that may produce `left` more tokens ends; nothing before the first
  /// step.
  std::optional<double> expect(std::uint32_t left) const;

 private:
  double step_seconds_ = 0;
  double share_ = 1;  ///< of what they may produce, before anything is known: all of it
};

}  // namespace quire
