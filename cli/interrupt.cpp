#include "cli/interrupt.hpp"

#include <cstdlib>
#include <utility>

namespace quire::cli {
namespace {

// Wakes the watching thread so that it can end.
constexpr int stop_signal = SIGUSR2;

sigset_t watched_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, stop_signal}) sigaddset(&signals, signal);
  return signals;
}

}  // namespace

interrupt_watch::interrupt_watch() {
  const sigset_t signals = watched_signals();
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
  thread_ = std::thread([this] { watch(); });
}

interrupt_watch::~interrupt_watch() {
  pthread_kill(thread_.native_handle(), stop_signal);
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void interrupt_watch::on_signal(std::function<void()> handler) {
  const std::lock_guard lock(mutex_);
  handler_ = std::move(handler);
}

void interrupt_watch::watch() {
  const sigset_t signals = watched_signals();
  for (;;) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal == stop_signal) return;
    std::function<void()> handler;
    {
      const std::lock_guard lock(mutex_);
      handler = std::exchange(handler_, nullptr);
    }
    if (!handler) std::_Exit(128 + signal);
    handler();
  }
}

}  // namespace quire::cli
