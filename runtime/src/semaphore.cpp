// SPDX-License-Identifier: Apache-2.0
#include <bight/semaphore.hpp>

#include <stdexcept>
#include <string>

#include <bight/check.hpp>

namespace bight {
namespace {

void describe_permit(const detail::WaitLink&, std::string& text) { text += "a permit of a Semaphore"; }

}  // namespace

Semaphore::Semaphore(std::ptrdiff_t permits) : permits_(permits) {
  BIGHT_CHECK(permits >= 0, "a Semaphore can not begin with less than no permits");
}

Semaphore::~Semaphore() { BIGHT_CHECK(waiters_.empty(), "a Semaphore is destroyed while fibers wait for it"); }

bool Semaphore::try_acquire() noexcept {
  bound_.enter();
  if (permits_ == 0) return false;
  --permits_;
  return true;
}

bool Semaphore::acquire_slow(TimePoint until) {
  if (try_acquire()) return true;
  detail::WaitLink link;
  return detail::wait_or_throw(waiters_, link, describe_permit, until);
}

void Semaphore::release_slow(std::ptrdiff_t count) noexcept {
  BIGHT_CHECK(count >= 0, "less than no permits can not be released");
  bound_.enter();
  while (count > 0 && waiters_.wake_one()) --count;
  permits_ += count;
}

void BoundedSemaphore::release(std::ptrdiff_t count) {
  if (count > bound_ - available()) {
    throw std::logic_error("release " + std::to_string(count) + " permits of a BoundedSemaphore: " +
                           std::to_string(bound_ - available()) + " of its " + std::to_string(bound_) + " are taken");
  }
  Semaphore::release(count);
}

}  // namespace bight
