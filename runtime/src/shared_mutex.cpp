// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_mutex.hpp>

#include <string>

#include <bight/check.hpp>
#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {

using detail::FiberControl;
using detail::Loop;

struct SharedMutex::Link : detail::WaitLink {
  explicit Link(bool as_writer) noexcept : writes(as_writer) {}
  const bool writes;
  bool overtaken = false;
};

SharedMutex::~SharedMutex() { BIGHT_CHECK(visitors_ == 0, "a SharedMutex is destroyed while fibers wait for it"); }

void SharedMutex::describe(const detail::WaitLink& link, std::string& text) {
  text += static_cast<const Link&>(link).writes ? "a SharedMutex, to write" : "a SharedMutex, to read";
}

bool SharedMutex::try_lock() noexcept {
  bound_.enter();
  FiberControl& self = Loop::require().require_fiber();
  if (readers_ > 0) return false;
  if (writer_ != nullptr) {
    if (heir_ == nullptr || heir_->overtaken) return false;
    heir_->overtaken = true;
    heir_ = nullptr;
  }
  writer_ = &self;
  return true;
}

bool SharedMutex::try_lock_shared() noexcept {
  bound_.enter();
  if (writer_ != nullptr || !waiters_.empty()) return false;
  ++readers_;
  return true;
}

bool SharedMutex::lock_limited(TimePoint until) {
  bound_.enter();
  FiberControl& self = Loop::require().require_fiber();
  BIGHT_CHECK(writer_ != &self, "a fiber locks a SharedMutex that it has locked already, and would wait for itself");
  Link link(true);
  while (writer_ != nullptr || readers_ > 0) {
    if (!wait_turn(link, until)) return false;
    if (writer_ == &self) {
      heir_ = nullptr;
      return true;
    }
  }
  writer_ = &self;
  return true;
}

bool SharedMutex::lock_shared_limited(TimePoint until) {
  if (try_lock_shared()) return true;
  BIGHT_CHECK(writer_ != &Loop::require().require_fiber(),
              "a fiber reads a SharedMutex that it has locked for writing, and would wait for itself");
  Link link(false);
  return wait_turn(link, until);
}

bool SharedMutex::wait_turn(Link& link, TimePoint until) {
  const detail::Visit visit(visitors_);
  const detail::WaitEnd end = detail::wait_in(waiters_, link, describe, until, link.overtaken);
  if (end == detail::WaitEnd::woken) return true;
  admit();  // readers behind a writer that has given up wait for nobody any more
  if (end == detail::WaitEnd::cancelled) throw Cancelled{};
  return false;
}

void SharedMutex::unlock() noexcept {
  bound_.enter();
  BIGHT_CHECK(writer_ != nullptr && writer_ == detail::current_loop->running_fiber,
              "a fiber unlocks a SharedMutex that it has not locked");
  writer_ = nullptr;
  admit();
}

void SharedMutex::unlock_shared() noexcept {
  bound_.enter();
  BIGHT_CHECK(readers_ > 0, "a SharedMutex is unlocked by a reader that it does not have");
  --readers_;
  admit();
}

/// Lets in whose turn it is: the first writer, when nobody has it, or readers up to the next writer.
void SharedMutex::admit() noexcept {
  while (writer_ == nullptr && !waiters_.empty()) {
    auto& first = static_cast<Link&>(*waiters_.first());
    if (first.writes) {
      if (readers_ > 0) return;
      writer_ = first.parking->fiber;
      heir_ = &first;
    } else {
      ++readers_;
    }
    waiters_.wake(first);
  }
}

}  // namespace bight
