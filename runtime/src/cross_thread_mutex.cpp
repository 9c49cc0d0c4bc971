// SPDX-License-Identifier: Apache-2.0
#include <bight/cross_thread_mutex.hpp>

#include <bight/check.hpp>

#include "loop.hpp"

namespace bight {
namespace {

/// Who calls: a fiber, a loop in a callback, or a thread.
const void* caller() noexcept {
  static thread_local constinit char thread = 0;
  const detail::Loop* loop = detail::Loop::current();
  if (loop == nullptr) return &thread;
  return loop->running() != nullptr ? static_cast<const void*>(loop->running()) : loop;
}

}  // namespace

struct CrossThreadMutex::Waiter : detail::CrossWaiter {
  explicit Waiter(const void* whose) noexcept : CrossWaiter("a CrossThreadMutex"), who(whose) {}
  const void* who;
};

CrossThreadMutex::~CrossThreadMutex() { BIGHT_CHECK(owner_ == nullptr, "a CrossThreadMutex ends while it is locked"); }

bool CrossThreadMutex::lock_until(TimePoint when) {
  const void* self = caller();
  std::unique_lock lock(mutex_);
  if (owner_ == nullptr) {
    owner_ = self;
    return true;
  }
  BIGHT_CHECK(owner_ != self, "a CrossThreadMutex is locked by who has it already: it is not recursive");
  Waiter waiter(self);
  waiters_.push(waiter);
  return detail::granted_or_throw(detail::settle(waiter, waiters_, lock, when));
}

bool CrossThreadMutex::try_lock() noexcept {
  const std::lock_guard lock(mutex_);
  if (owner_ != nullptr) return false;
  owner_ = caller();
  return true;
}

void CrossThreadMutex::unlock() noexcept {
  detail::CrossNotices notices;  // sent when the lock has been let go of: the next owner may end this mutex
  const std::lock_guard lock(mutex_);
  BIGHT_CHECK(owner_ == caller(), "a CrossThreadMutex is unlocked by who does not have it");
  auto* next = static_cast<Waiter*>(waiters_.pop());
  owner_ = next != nullptr ? next->who : nullptr;
  if (next != nullptr) notices.add(*next);
}

}  // namespace bight
