// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <system_error>

namespace bight {

/// Thrown out of every wait of a fiber that has been cancelled, until the fiber (or the scope that was cancelled) is
/// unwound.
///
/// Not derived from std::exception, so that `catch (const std::exception&)` around an operation does not swallow it. A
/// handler that catches it (`catch (...)`) should rethrow; if it does not, the fiber's next wait throws it again. The
/// std::error_code overloads report std::errc::operation_canceled instead.
class Cancelled {};

/// with_timeout or with_deadline ran out of time. Thrown at the boundary of the very call whose time it was, never from
/// inside, so nested ones can not be mistaken for each other. code() is std::errc::timed_out.
class TimedOut : public std::system_error {
 public:
  explicit TimedOut(const std::string& what);
};

/// Fiber::get on a fiber that was cancelled. Another type than Cancelled, for it is not the caller who was.
class FiberCancelled : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Nothing on the loop can ever run again: no fiber is ready, no timer is set, no operation is under way, nobody waits
/// for a signal and no Remote exists. what() lists every parked fiber and what it waits for. Thrown by run(), after the
/// parked fibers have been cancelled and unwound.
class Deadlock : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The loop could not be set up: an unknown engine was asked for, or the one asked for is not available. what() says
/// why.
class EngineUnavailable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A value was sent into a channel, or put into a queue, that had been closed. The value stays with the sender.
class ChannelClosed : public std::runtime_error {
 public:
  ChannelClosed() : std::runtime_error("the channel is closed") {}
};

namespace detail {

/// Throws std::system_error with "WHAT: REASON", or Cancelled when `error` says that the fiber was cancelled.
[[noreturn]] void throw_error(std::error_code error, const std::string& what);

}  // namespace detail
}  // namespace bight
