// SPDX-License-Identifier: Apache-2.0
#include <bight/event.hpp>

#include <string>

#include <bight/check.hpp>

#include "loop.hpp"

namespace bight {
namespace {

void describe_event(const detail::WaitLink&, std::string& text) { text += "an Event"; }

}  // namespace

Event::~Event() { BIGHT_CHECK(waiters_.empty(), "an Event is destroyed while fibers wait for it"); }

void Event::set() noexcept {
  bound_.enter();
  set_ = true;
  if (waiters_.wake_all() > 0) mark_ = detail::Loop::require().queue_mark();
}

bool Event::wait_slow(TimePoint until) {
  if (!bound_.here()) mark_ = 0;  // of a loop that has ended
  bound_.enter();
  if (set_) {
    let_earlier_ones_pass();
    return true;
  }
  detail::WaitLink link;
  return detail::wait_or_throw(waiters_, link, describe_event, until);
}

/// Who comes late, to a flag that is up, still goes behind those who waited for it.
void Event::let_earlier_ones_pass() noexcept {
  detail::Loop* loop = detail::Loop::current();
  if (mark_ == 0 || loop == nullptr || loop->running() == nullptr) return;
  if (loop->queue_passed(mark_)) {
    mark_ = 0;
  } else {
    loop->pass();  // after which there may be no Event any more
  }
}

AutoResetEvent::~AutoResetEvent() {
  BIGHT_CHECK(waiters_.empty(), "an AutoResetEvent is destroyed while fibers wait for it");
}

void AutoResetEvent::set() noexcept {
  bound_.enter();
  if (!waiters_.wake_one()) set_ = true;
}

bool AutoResetEvent::wait_slow(TimePoint until) {
  bound_.enter();
  detail::WaitLink link;
  return detail::wait_or_throw(waiters_, link, describe_event, until);
}

}  // namespace bight
