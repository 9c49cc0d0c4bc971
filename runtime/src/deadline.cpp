// SPDX-License-Identifier: Apache-2.0
#include <bight/deadline.hpp>

#include <string>

#include "deadline_clock.hpp"
#include "loop.hpp"

namespace bight {
Deadline::ScopeTimer::ScopeTimer(Deadline& owner) noexcept
    : Timer([](Timer& timer) noexcept { static_cast<ScopeTimer&>(timer).deadline->scope_.cancel(); }),
      deadline(&owner) {}

Deadline::Deadline(TimePoint when) noexcept : timer_(*this) {
  open();
  reset(when);
}

Deadline::Deadline(Duration limit) noexcept : timer_(*this) {
  open();
  reset(limit);
}

Deadline::~Deadline() {
  if (open_) close();
}

void Deadline::open() noexcept { scope_.open(detail::Loop::require().require_fiber()); }

void Deadline::close() noexcept {
  disarm();
  scope_.close();
  open_ = false;
}

void Deadline::reset(TimePoint when) noexcept {
  if (expired()) return;
  detail::Loop& loop = detail::Loop::require();
  if (when <= loop.now()) {
    loop.timers().disarm(timer_);
    scope_.cancel();
  } else {
    loop.timers().arm(timer_, when);
  }
}

void Deadline::reset(Duration limit) noexcept {
  if (expired()) return;
  detail::Loop& loop = detail::Loop::require();
  if (limit <= Duration::zero()) {
    loop.timers().disarm(timer_);
    scope_.cancel();
  } else {
    loop.timers().arm(timer_, detail::end_of(loop, limit));
  }
}

void Deadline::disarm() noexcept {
  if (timer_.armed()) detail::Loop::require().timers().disarm(timer_);
}

bool Deadline::absorbs() noexcept {
  const bool ours = scope_.absorbs();
  close();
  return ours;
}

Shield::Shield() noexcept { scope_.open(detail::Loop::require().require_fiber(), true); }

Shield::~Shield() { scope_.close(); }

namespace detail {

void throw_timed_out(Duration limit) {
  throw TimedOut("timed out after " + std::to_string(std::chrono::duration<double>(limit).count()) + " s");
}

void throw_deadline_passed() { throw TimedOut("the deadline has passed"); }

}  // namespace detail
}  // namespace bight
