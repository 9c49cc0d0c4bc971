// SPDX-License-Identifier: Apache-2.0
#include "descriptor_wait.hpp"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <new>
#include <utility>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fd.hpp>
#include <bight/select.hpp>

#include "descriptor_use.hpp"
#include "fork_guard.hpp"
#include "loop.hpp"

namespace bight::detail {
namespace {

std::error_code error_of(int number) noexcept { return {number, std::generic_category()}; }

/// poll(2) until then; how many are ready, or -errno.
int poll_until(pollfd* polled, nfds_t count, TimePoint until) noexcept {
  for (;;) {
    timespec limit{};
    if (until != TimePoint::max() && until != TimePoint::min()) {
      const Duration left = std::max(Duration(until - now()), Duration::zero());
      limit.tv_sec = left / std::chrono::seconds(1);
      limit.tv_nsec = (left % std::chrono::seconds(1)).count();
    }
    const int ready = ::ppoll(polled, count, until == TimePoint::max() ? nullptr : &limit, nullptr);
    if (ready >= 0) return ready;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace

LazyWatch::LazyWatch() noexcept : forks_(forks_so_far()) {}

void LazyWatch::drop_what_is_stale() noexcept {
  if (forks_ != forks_so_far()) {
    forks_ = forks_so_far();
    bound_ = LoopBound();
    watch_.reset();
  }
  bound_.enter();
  if (watch_ && !watch_->attached()) watch_.reset();  // of a loop that has ended, else enter() would not have returned
}

FdWatch* LazyWatch::attach(int fd, std::error_code& error) noexcept {
  drop_what_is_stale();
  if (watch_) return &*watch_;
  if (in_simulated_world()) {
    error = std::make_error_code(std::errc::operation_not_supported);
    return nullptr;
  }
  try {
    return &watch_.emplace(fd);
  } catch (const std::bad_alloc&) {
    error = std::make_error_code(std::errc::not_enough_memory);
    return nullptr;
  }
}

int LazyWatch::read(Op& op, TimePoint until) noexcept {
  Use use(watch_->fd_, watch_->state_);
  use.generation = watch_->generation_;
  std::optional<Deadline> deadline;
  if (until != TimePoint::max()) deadline.emplace(until);
  Op* const other = std::exchange(watch_->reader_, &op);
  const int result = use.perform(op, Direction::reading);
  watch_->reader_ = other;
  const bool ours = deadline && deadline->absorbs();
  return ours && result == -ECANCELED ? -ETIMEDOUT : result;
}

void LazyWatch::detach() noexcept {
  if (watch_) drop_what_is_stale();
  if (watch_) watch_->close();  // but stays: those who waited look at it once more
}

namespace {

std::error_code wait_in_loop(FdWatch& watch, Readiness what, TimePoint until) noexcept {
  std::error_code error;
  auto wait = [&] { what == Readiness::readable ? watch.wait_readable(error) : watch.wait_writable(error); };
  if (until == TimePoint::max()) {
    wait();
    return error;
  }
  Deadline deadline(until);
  wait();
  const bool ours = deadline.absorbs();
  return ours && error == std::errc::operation_canceled ? error_of(ETIMEDOUT) : error;
}

}  // namespace

std::error_code wait_ready(LazyWatch& watch, int fd, Readiness what, TimePoint until) noexcept {
  if (until == TimePoint::min()) return error_of(ETIMEDOUT);
  if (Loop::current() == nullptr) {
    pollfd polled{fd, static_cast<short>(what == Readiness::readable ? POLLIN : POLLOUT), 0};
    const int ready = poll_until(&polled, 1, until);
    if (ready < 0) return error_of(-ready);
    return ready == 0 ? error_of(ETIMEDOUT) : std::error_code();
  }
  std::error_code error;
  FdWatch* attached = watch.attach(fd, error);
  return attached != nullptr ? wait_in_loop(*attached, what, until) : error;
}

std::error_code wait_readable_once(int fd, TimePoint until) noexcept {
  LazyWatch watch;
  const std::error_code error = wait_ready(watch, fd, Readiness::readable, until);
  watch.detach();
  return error;
}

std::error_code wait_ready_aside(int fd, Readiness what, TimePoint until) noexcept {
  LazyWatch watch;
  if (Loop::current() == nullptr) return wait_ready(watch, fd, what, until);  // poll(2) takes as many as like
  const Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return error_of(errno);
  const std::error_code error = wait_ready(watch, copy.get(), what, until);
  watch.detach();
  return error;
}

ReadyOne wait_readable_either(int first, int second, TimePoint until) noexcept {
  ReadyOne outcome;
  if (until == TimePoint::min()) {
    outcome.error = error_of(ETIMEDOUT);
  } else if (Loop::current() == nullptr) {
    std::array<pollfd, 2> polled{pollfd{first, POLLIN, 0}, pollfd{second, POLLIN, 0}};
    const int ready = poll_until(polled.data(), polled.size(), until);
    if (ready <= 0) {
      outcome.error = error_of(ready == 0 ? ETIMEDOUT : -ready);
    } else {
      outcome.which = polled[0].revents != 0 ? 0 : 1;
    }
  } else if (in_simulated_world()) {
    outcome.error = std::make_error_code(std::errc::operation_not_supported);
  } else {
    try {
      FdWatch watch_first(first);
      FdWatch watch_second(second);
      const std::size_t chosen =
          select(watch_first.on_readable([] {}), watch_second.on_readable([] {}), at(until, [] {}));
      if (chosen == 2) outcome.error = error_of(ETIMEDOUT);
      if (chosen < 2) outcome.which = static_cast<int>(chosen);
    } catch (const Cancelled&) {
      outcome.error = error_of(ECANCELED);
    } catch (const std::bad_alloc&) {
      outcome.error = error_of(ENOMEM);
    } catch (const std::system_error& error) {
      outcome.error = error.code();
    }
  }
  return outcome;
}

bool is_readable(int fd) noexcept {
  pollfd polled{fd, POLLIN, 0};
  return poll_until(&polled, 1, TimePoint::min()) > 0;
}

bool cancelled_here() noexcept {
  const FiberControl* fiber = current_loop->running_fiber;
  return fiber != nullptr && fiber->cancel_pending();
}

void charge_here() noexcept {
  Loop* loop = Loop::current();
  if (loop != nullptr && loop->running() != nullptr) loop->charge();
}

bool in_simulated_world() noexcept {
  Loop* loop = Loop::current();
  return loop != nullptr && loop->engine_is_virtual();
}

// --- Turn ------------------------------------------------------------------------------------------------------------

bool Turn::take(TimePoint until, DescribeWait describe, std::error_code& error) noexcept {
  if (!taken_) {
    taken_ = true;
    return true;
  }
  if (until == TimePoint::min()) {
    error = error_of(ETIMEDOUT);
    return false;
  }
  WaitLink link;
  switch (wait_in(waiters_, link, describe, until)) {
    case WaitEnd::woken: return true;
    case WaitEnd::timed_out: error = error_of(ETIMEDOUT); return false;
    case WaitEnd::cancelled: error = error_of(ECANCELED); return false;
  }
  return false;
}

void Turn::give() noexcept {
  if (!waiters_.wake_one()) taken_ = false;
}

void Turn::forget() noexcept {
  taken_ = false;
  waiters_.~WaitList();
  ::new (&waiters_) WaitList();
}

}  // namespace bight::detail
