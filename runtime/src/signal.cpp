// SPDX-License-Identifier: Apache-2.0
#include <bight/signal.hpp>

#include <cstring>

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>

#include <bight/check.hpp>

#include "fork_guard.hpp"
#include "loop.hpp"
#include "signal_port.hpp"

namespace bight {
namespace {

using detail::Loop;
using detail::signal_bit;
using detail::SignalMask;
using detail::SignalPort;

/// Why nobody can subscribe to it; null: one can.
const char* why_refused(int number) noexcept {
  constexpr std::array kFaults{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS, SIGTRAP, SIGABRT};
  if (number < 1 || number > SIGRTMAX) return "there is no such signal";
  if (number == SIGKILL || number == SIGSTOP) return "the kernel lets nobody handle it";
  if (number > SIGSYS && number < SIGRTMIN) return "the C library keeps it to itself";
  const bool fault = std::find(kFaults.begin(), kFaults.end(), number) != kFaults.end();
  return fault ? "it tells of a fault in the very code that would have to go on" : nullptr;
}

SignalMask mask_of(std::span<const int> numbers) {
  SignalMask mask = 0;
  for (const int number : numbers) {
    if (const char* why = why_refused(number)) {
      throw std::invalid_argument("receive " + signal_name(number) + ": " + why);
    }
    mask |= signal_bit(number);
  }
  if (mask == 0) throw std::invalid_argument("receive signals: none is named");
  return mask;
}

SignalMask real_time_numbers() noexcept { return ~(signal_bit(SIGRTMIN) - 1); }

}  // namespace

std::string signal_name(int number) {
  if (number >= SIGRTMIN && number <= SIGRTMAX) {
    return number == SIGRTMIN ? "SIGRTMIN" : "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
  }
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  if (const char* name = ::sigabbrev_np(number)) return std::string("SIG") + name;
#endif
  return "signal " + std::to_string(number);
}

namespace detail {

SignalSubscriber::SignalSubscriber(std::span<const int> numbers)
    : numbers_(mask_of(numbers)), loop_(&Loop::require()), forks_(forks_so_far()) {}

bool SignalSubscriber::real_time() const noexcept { return (numbers_ & real_time_numbers()) != 0; }

void SignalSubscriber::look() const noexcept {
  BIGHT_CHECK(Loop::current() == loop_,
              "Signals belong to the loop that they were made on: each thread's loop makes its own");
  loop_->signals().dispatch();
}

void SignalSubscriber::unsubscribe() noexcept {
  if (forks_ != forks_so_far() && Loop::current() != loop_) return;  // in a forked child there is nothing to end
  look();
  loop_->signals().unsubscribe(*this);
}

SignalScope::SignalScope(std::span<const int> numbers) : SignalSubscriber(numbers) {
  Loop& loop = Loop::require();
  FiberControl& self = loop.require_fiber();
  loop.signals().subscribe(*this);
  scope_.open(self);
}

void SignalScope::deliver(const Signal& signal) noexcept {
  if (came_ != 0) return;
  came_ = signal.number;
  scope_.cancel();
}

void SignalScope::close() noexcept {
  unsubscribe();
  scope_.close();
  open_ = false;
}

}  // namespace detail

Signals::Signals(std::span<const int> numbers) : SignalSubscriber(numbers) {
  queue_.reserve(real_time() ? SignalPort::kSlots : static_cast<std::size_t>(std::popcount(this->numbers())));
  Loop::require().signals().subscribe(*this);
}

Signals::~Signals() {
  BIGHT_CHECK(waiters_.empty(), "a Signals is destroyed while fibers wait for it");
  unsubscribe();
}

void Signals::deliver(const Signal& signal) noexcept {
  if (!waiters_.empty()) {
    static_cast<detail::SignalLink&>(*waiters_.first()).signal = signal;
    waiters_.wake_one();
    return;
  }
  const SignalMask bit = signal_bit(signal.number);
  if ((bit & real_time_numbers()) == 0) {
    if ((queued_ & bit) != 0) return;
    queued_ |= bit;
  } else if (queue_.size() >= SignalPort::kRealTimeMax) {
    late_ |= bit;
    return;
  }
  queue_.push(Signal(signal));  // there is room: see the constructor
}

bool Signals::is_set() noexcept {
  look();
  return !queue_.empty() || late_ != 0;
}

std::optional<Signal> Signals::try_receive() noexcept {
  look();
  if (!queue_.empty()) {
    const Signal signal = queue_.front();
    queue_.pop();
    queued_ &= ~signal_bit(signal.number);
    return signal;
  }
  if (late_ == 0) return std::nullopt;
  Signal signal;
  signal.number = std::countr_zero(late_) + 1;
  late_ &= late_ - 1;
  return signal;
}

void Signals::describe(const detail::WaitLink& /*link*/, std::string& text) { text += "a signal"; }

std::optional<Signal> Signals::receive_by(TimePoint until) {
  if (auto signal = try_receive()) return signal;
  detail::SignalLink link;
  if (!detail::wait_or_throw(waiters_, link, describe, until)) return std::nullopt;
  return link.signal;
}

}  // namespace bight
