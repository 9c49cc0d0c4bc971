// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_event.hpp>

#include <bight/check.hpp>

namespace bight {

SharedEvent::~SharedEvent() { BIGHT_CHECK(waiters_.empty(), "a SharedEvent ends while somebody waits for it"); }

void SharedEvent::set() noexcept {
  detail::CrossNotices notices;  // sent when the lock has been let go of: a waiter may end this event
  const std::lock_guard lock(mutex_);
  set_ = true;
  while (detail::CrossWaiter* waiter = waiters_.pop()) notices.add(*waiter);
}

void SharedEvent::clear() noexcept {
  const std::lock_guard lock(mutex_);
  set_ = false;
}

bool SharedEvent::is_set() const noexcept {
  const std::lock_guard lock(mutex_);
  return set_;
}

bool SharedEvent::wait_until(TimePoint when) {
  // Not without the lock: once this returns the event may end, and set() must be done with it by then.
  std::unique_lock lock(mutex_);
  if (set_) return true;
  detail::CrossWaiter waiter("a SharedEvent");
  waiters_.push(waiter);
  return detail::granted_or_throw(detail::settle(waiter, waiters_, lock, when));
}

}  // namespace bight
