#include "actors/departures.hpp"

#include <algorithm>

namespace quire {

namespace {
/// Weights of what was seen last.
constexpr double newest_step = 0.1;
constexpr double newest_share = 0.2;
}  // namespace

void departures::stepped(double seconds) {
  step_seconds_ =
      step_seconds_ == 0 ? seconds : step_seconds_ + newest_step * (seconds - step_seconds_);
}

void departures::ended(std::uint32_t produced, std::uint32_t allowed) {
  share_ += newest_share * (static_cast<double>(produced) / allowed - share_);
}

std::optional<double> departures::expect(std::uint32_t left) const {
  if (step_seconds_ == 0) return std::nullopt;
  return step_seconds_ * std::max(1.0, share_ * left);
}

}  // namespace quire
