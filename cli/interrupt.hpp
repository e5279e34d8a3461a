// Ctrl-C and SIGTERM as calls on a thread of their own, where locks may be taken.
#pragma once

#include <signal.h>

#include <functional>
#include <mutex>
#include <thread>

namespace quire::cli {

/// Takes SIGINT and SIGTERM away from all threads that start after it. Make one before the engine.
class interrupt_watch {
 public:
  interrupt_watch();
  /// Restores the signals' former handling for the calling thread.
  ~interrupt_watch();
  interrupt_watch(const interrupt_watch&) = delete;
  interrupt_watch& operator=(const interrupt_watch&) = delete;

  /// Calls `handler`, on the watch's thread, at the next signal and then forgets it. Without a
  /// handler a signal ends the process at once with exit code 128 + its number, so that a second
  /// Ctrl-C always works.
  void on_signal(std::function<void()> handler);

 private:
  void watch();

  sigset_t before_{};
  std::mutex mutex_;
  std::function<void()> handler_;
  std::thread thread_;
};

}  // namespace quire::cli
