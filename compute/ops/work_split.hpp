// Cuts a list of work items of known cost into tasks for the arena: consecutive items, about equal
// cost, none so small that claiming it costs more than doing it. Items are computed the same way
// wherever the cuts fall, so results do not depend on them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "compute/arena.hpp"

namespace quire {

/// Collects costs, then runs. Keeps its memory between uses.
class work_split {
 public:
  /// A cost that takes about two microseconds: tasks are not cut smaller. A thread that gets
  /// nothing asks memory for weights meanwhile (arena::expect), which is worth more than half of so
  /// little.
  static constexpr std::size_t smallest_task = 120000;

  void clear() noexcept {
    costs_.clear();
    total_ = 0;
  }
  /// Appends an item; a unit of cost is about a multiplication and an addition of a vector kernel.
  void add(std::size_t cost) {
    costs_.push_back(cost);
    total_ += cost;
  }
  std::size_t num_items() const noexcept { return costs_.size(); }

  /// Calls body(item) once for every item, on the threads of the arena.
  template <class Body>
  void run(arena& threads, Body&& body) {
    cut(threads.num_threads());
    threads.parallel(ends_.size(), [&](std::size_t task) {
      for (std::size_t i = task == 0 ? 0 : ends_[task - 1]; i < ends_[task]; ++i) body(i);
    });
  }

 private:
  void cut(std::size_t num_threads) {
    // More tasks than threads, so that a late or slow thread leaves its share to the others.
    constexpr std::size_t tasks_per_thread = 8;
    const std::size_t share = std::max(
        smallest_task, num_threads == 1 ? total_ : total_ / (num_threads * tasks_per_thread));
    ends_.clear();
    std::size_t sum = 0;
    for (std::size_t i = 0; i < costs_.size(); ++i) {
      sum += costs_[i];
      if (sum >= share || i + 1 == costs_.size()) {
        ends_.push_back(i + 1);
        sum = 0;
      }
    }
  }

  std::vector<std::size_t> costs_;
  std::vector<std::size_t> ends_;
  std::size_t total_ = 0;
};

}  // namespace quire
