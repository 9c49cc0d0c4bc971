// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_semaphore.hpp>

#include <bight/check.hpp>

namespace bight {

SharedSemaphore::~SharedSemaphore() {
  BIGHT_CHECK(waiters_.empty(), "a SharedSemaphore ends while somebody waits for a permit");
}

bool SharedSemaphore::try_acquire_until(TimePoint when) {
  std::unique_lock lock(mutex_);
  if (permits_ > 0) {
    --permits_;
    return true;
  }
  detail::CrossWaiter waiter("a permit of a SharedSemaphore");
  waiters_.push(waiter);
  return detail::granted_or_throw(detail::settle(waiter, waiters_, lock, when));
}

bool SharedSemaphore::try_acquire() noexcept {
  const std::lock_guard lock(mutex_);
  if (permits_ == 0) return false;
  --permits_;
  return true;
}

void SharedSemaphore::release(std::size_t permits) noexcept {
  detail::CrossNotices notices;  // sent when the lock has been let go of: a waiter may end this semaphore
  const std::lock_guard lock(mutex_);
  for (; permits > 0 && !waiters_.empty(); --permits) notices.add(*waiters_.pop());
  permits_ += permits;
}

std::size_t SharedSemaphore::available() const noexcept {
  const std::lock_guard lock(mutex_);
  return permits_;
}

}  // namespace bight
