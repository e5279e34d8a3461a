#include "actors/stop_matcher.hpp"

#include <algorithm>
#include <utility>

namespace quire {

stop_matcher::stop_matcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
}

std::string stop_matcher::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    stopped_ = true;
    held_.resize(first);
    return std::exchange(held_, {});
  }
  // Keep the longest end of the text that is the beginning of a stop string. A stop string begins
  // with a whole character, so what is kept and what is shown both end between characters.
  std::size_t kept = 0;
  for (const std::string& stop : stops_)
    for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > kept; --length)
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, length))) {
        kept = length;
        break;
      }
  std::string shown = held_.substr(0, held_.size() - kept);
  held_.erase(0, shown.size());
  return shown;
}

std::string stop_matcher::finish() {
  return stopped_ ? std::string() : std::exchange(held_, {});
}

}  // namespace quire
