// SPDX-License-Identifier: Apache-2.0
#include "signals.hpp"

#include <atomic>
#include <cerrno>

#include "loop.hpp"

namespace bight::detail {
namespace {

std::atomic<Loop*> signalled_loop{nullptr};
static_assert(std::atomic<Loop*>::is_always_lock_free, "a signal handler may not lock");

void on_signal(int number) {
  const int error = errno;
  if (Loop* loop = signalled_loop.load(std::memory_order_acquire)) loop->note_signal(number);
  errno = error;
}

}  // namespace

StopSignals::StopSignals(Loop& loop, bool wanted) noexcept {
  Loop* nobody = nullptr;
  if (!wanted || !signalled_loop.compare_exchange_strong(nobody, &loop)) return;
  ours_ = true;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGTERM, &action, &term_before_);
  ::sigaction(SIGINT, &action, &int_before_);
}

StopSignals::~StopSignals() {
  if (!ours_) return;
  ::sigaction(SIGTERM, &term_before_, nullptr);
  ::sigaction(SIGINT, &int_before_, nullptr);
  signalled_loop.store(nullptr, std::memory_order_release);
}

}  // namespace bight::detail
