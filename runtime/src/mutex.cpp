// SPDX-License-Identifier: Apache-2.0
#include <bight/mutex.hpp>

#include <string>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {

using detail::FiberControl;
using detail::Loop;

struct Mutex::Link : detail::WaitLink {
  explicit Link(const Mutex& locked) noexcept : mutex(locked) {}
  const Mutex& mutex;
  bool overtaken = false;
};

Mutex::~Mutex() { BIGHT_CHECK(visitors_ == 0, "a Mutex is destroyed while fibers wait for it"); }

void Mutex::describe(const detail::WaitLink& link, std::string& text) {
  text += "a Mutex";
  const FiberControl* owner = static_cast<const Link&>(link).mutex.owner_;
  if (owner == nullptr) return;
  if (!Loop::require().stacks().is_owner(owner) || owner->finished()) {
    text += " that a fiber owns which has ended";
    return;
  }
  text.append(" that fiber #").append(std::to_string(owner->id)).append(" '").append(owner->name()).append("' owns");
}

bool Mutex::try_lock() noexcept {
  bound_.enter();
  FiberControl& self = Loop::require().require_fiber();
  if (owner_ != nullptr) {
    if (heir_ == nullptr || heir_->overtaken) return false;
    heir_->overtaken = true;
    heir_ = nullptr;
  }
  owner_ = &self;
  return true;
}

bool Mutex::lock_slow(TimePoint until) {
  bound_.enter();
  FiberControl& self = Loop::require().require_fiber();
  BIGHT_CHECK(owner_ != &self, "a fiber locks a Mutex that it owns already, and would wait for itself");
  Link link(*this);
  const detail::Visit visit(visitors_);
  while (owner_ != nullptr) {
    if (!detail::wait_or_throw(waiters_, link, describe, until, link.overtaken)) return false;
    if (owner_ == &self) {
      heir_ = nullptr;
      return true;
    }
  }
  owner_ = &self;
  return true;
}

void Mutex::unlock_slow() noexcept {
  bound_.enter();
  BIGHT_CHECK(owner_ != nullptr && owner_ == detail::current_loop->running_fiber,
              "a fiber unlocks a Mutex that it does not own");
  heir_ = static_cast<Link*>(waiters_.first());
  owner_ = heir_->parking->fiber;
  waiters_.wake(*heir_);
}

}  // namespace bight
