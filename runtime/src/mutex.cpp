// SPDX-License-Identifier: Apache-2.0
#include <bight/mutex.hpp>

#include <string>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {
namespace {

struct MutexLink : detail::WaitLink {
  MutexLink(const detail::FiberControl& waiter, detail::FiberControl*& whose) noexcept
      : fiber(waiter), owner(whose) {}
  const detail::FiberControl& fiber;
  detail::FiberControl*& owner;
};

void describe_mutex(const detail::WaitLink& link, std::string& text) {
  const detail::FiberControl* owner = static_cast<const MutexLink&>(link).owner;
  text += "a Mutex";
  if (owner == nullptr) return;
  text.append(" that fiber #").append(std::to_string(owner->id)).append(" '").append(owner->name()).append("' owns");
}

}  // namespace

Mutex::~Mutex() { BIGHT_CHECK(waiters_.empty(), "a Mutex is destroyed while fibers wait for it"); }

bool Mutex::take() noexcept {
  bound_.enter();
  if (owner_ != nullptr) return false;
  owner_ = &detail::Loop::require().require_fiber();
  return true;
}

bool Mutex::try_lock() noexcept { return take(); }

bool Mutex::lock_slow(TimePoint until) {
  if (take()) return true;
  detail::FiberControl& self = detail::Loop::require().require_fiber();
  BIGHT_CHECK(owner_ != &self, "a fiber locks a Mutex that it owns already, and would wait for itself");
  MutexLink link(self, owner_);
  return detail::wait_or_throw(waiters_, link, describe_mutex, until);
}

void Mutex::unlock_slow() noexcept {
  bound_.enter();
  BIGHT_CHECK(owner_ == detail::current_loop->running_fiber, "a fiber unlocks a Mutex that it does not own");
  detail::WaitLink* first = waiters_.first();
  owner_ = first->parking->fiber;
  waiters_.wake(*first);
}

}  // namespace bight
