// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <system_error>
#include <type_traits>
#include <utility>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/readiness_case.hpp>

namespace bight {

namespace detail {
struct FdState;
class LazyWatch;
struct Op;
}  // namespace detail

/// Waits on a descriptor that somebody else owns, reads, writes and closes: a client library that does its own
/// non-blocking I/O (libpq, hiredis, libcurl), a pidfd, an inotify or event descriptor. Neither the descriptor's flags
/// nor what it holds are touched.
///
///     bight::FdWatch socket(PQsocket(connection));
///     while (PQisBusy(connection)) { socket.wait_readable(); PQconsumeInput(connection); }
///
/// Belongs to the loop it was made on. One fiber may wait for readability while another waits for writability; two
/// that wait for the same are refused with device_or_resource_busy, also those of other FdWatches or of a Socket on
/// that descriptor. Anything that poll(2) takes will do; what is always ready (a regular file) never waits.
///
/// Must stay where it is until the waits on it have returned; close() ends them. To be ended, or closed, before the
/// descriptor is: a number that was closed underneath may be another's by then. It may outlive its loop, and be
/// destroyed in a forked child; then there is nothing left to do.
///
/// Under the sim engine only the simulated world's descriptors can be waited on; for others the waits fail with
/// operation_not_supported.
class FdWatch {
 public:
  /// Throws std::bad_alloc.
  explicit FdWatch(int fd);
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;
  ~FdWatch() { close(); }

  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// Whether it is of use on this thread's loop: neither closed, nor another loop's (or one's that has ended).
  [[nodiscard]] bool attached() const noexcept { return state_ != nullptr && loop_.here(); }

  /// Wait until poll(2) would call it readable, or writable; or in error, which the owner's next call will tell.
  /// Errors: operation_canceled (the throwing form throws Cancelled), bad_file_descriptor (closed meanwhile),
  /// device_or_resource_busy.
  void wait_readable();
  void wait_readable(std::error_code& error);
  void wait_writable();
  void wait_writable(std::error_code& error);

  /// Cases of select(), see there. While it waits, the select is the one that waits for this.
  template <class F>
  [[nodiscard]] auto on_readable(F&& handler) {
    return detail::ReadinessCase<std::decay_t<F>>(fd_, state_, detail::Readiness::readable, std::forward<F>(handler));
  }
  template <class F>
  [[nodiscard]] auto on_writable(F&& handler) {
    return detail::ReadinessCase<std::decay_t<F>>(fd_, state_, detail::Readiness::writable, std::forward<F>(handler));
  }

  /// Ends the waits under way, with bad_file_descriptor, and the watch. The descriptor stays open. Harmless when
  /// repeated.
  void close() noexcept;

 private:
  friend class detail::LazyWatch;

  void wait(detail::Op& op, detail::Op*& mine, std::error_code& error);

  int fd_;
  detail::FdState* state_;
  detail::Op* reader_ = nullptr;  // our waits under way
  detail::Op* writer_ = nullptr;
  unsigned generation_;  // of the descriptor's number
  detail::LoopBound loop_;
};

/// One wait on a descriptor that somebody else owns. For several in a row an FdWatch costs less: this tells the system
/// of the descriptor, and has it forget again, each time.
void wait_readable(int fd);
void wait_readable(int fd, std::error_code& error);
void wait_writable(int fd);
void wait_writable(int fd, std::error_code& error);

}  // namespace bight
