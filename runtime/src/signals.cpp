// SPDX-License-Identifier: Apache-2.0
#include "signals.hpp"

#include <atomic>
#include <cerrno>
#include <thread>

#include "loop.hpp"

namespace bight::detail {
namespace {

std::atomic<Loop*> signalled_loop{nullptr};
std::atomic<int> handlers_at_work{0};  // on other threads: the loop waits for them before it goes
static_assert(std::atomic<Loop*>::is_always_lock_free, "a signal handler may not lock");

struct sigaction term_before {};
struct sigaction int_before {};

void on_signal(int number) {
  const int error = errno;
  handlers_at_work.fetch_add(1);
  if (Loop* loop = signalled_loop.load()) loop->note_signal(number);
  handlers_at_work.fetch_sub(1);
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
  ::sigaction(SIGTERM, &action, &term_before);
  ::sigaction(SIGINT, &action, &int_before);
}

StopSignals::~StopSignals() {
  if (!ours_) return;
  restore();
  signalled_loop.store(nullptr);
  while (handlers_at_work.load() != 0) std::this_thread::yield();
}

void StopSignals::forget_in_forked_child() noexcept {
  if (signalled_loop.exchange(nullptr) != nullptr) restore();
}

void StopSignals::restore() noexcept {
  ::sigaction(SIGTERM, &term_before, nullptr);
  ::sigaction(SIGINT, &int_before, nullptr);
}

}  // namespace bight::detail
