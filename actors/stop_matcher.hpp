// Finds stop strings in text that arrives in pieces, and holds back what may become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire {

class stop_matcher {
 public:
  /// Empty stop strings are ignored.
  explicit stop_matcher(std::vector<std::string> stops);

  /// Adds text; returns what may be shown now. After a match it returns the text before the stop
  /// string, and `stopped()` is true from then on. Cost: O(text x length of the stops).
  std::string push(std::string_view text);
  /// Returns what was held back: no more text will come.
  std::string finish();
  bool stopped() const noexcept { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace quire
