// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <system_error>
#include <type_traits>
#include <utility>

#include <bight/detail/readiness_case.hpp>
#include <bight/fd.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {
struct FdState;
struct Op;
enum class Direction : unsigned char { reading, writing };
}  // namespace detail

/// What all open descriptors on this thread's loop have in common; Socket and Stream are made of it.
///
/// Move-only, owns the descriptor. Belongs to the loop it was made on. One fiber may read while another writes, but two
/// that read (or two that write) at a time are refused with device_or_resource_busy. It may be closed, moved or
/// destroyed while fibers wait on it: they wake with bad_file_descriptor. The verbs that wait report
/// operation_canceled when the fiber was cancelled (also when it would not have had to wait), timed_out when the
/// descriptor's timeout passed. They never throw.
class Descriptor {
 public:
  [[nodiscard]] int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Wakes who waits on it, then closes. Does not wait. Harmless when closed.
  void close() noexcept;
  /// Wakes who waits on it, and hands the descriptor over, open, in the state it is in (which is non-blocking, mostly).
  [[nodiscard]] Fd release() noexcept;

  /// Wait until poll(2) would call it readable, or writable; or in error, which the next call on it will tell.
  void wait_readable(std::error_code& error);
  void wait_writable(std::error_code& error);
  /// Cases of select(), see there. While it waits, the select is the one reader (or writer) of the descriptor. An
  /// error, as of one that is closed meanwhile, is thrown by select() as std::system_error; timeouts do not count.
  template <class F>
  [[nodiscard]] auto on_readable(F&& handler) {
    return detail::ReadinessCase<std::decay_t<F>>(fd_, state_, detail::Readiness::readable, std::forward<F>(handler));
  }
  template <class F>
  [[nodiscard]] auto on_writable(F&& handler) {
    return detail::ReadinessCase<std::decay_t<F>>(fd_, state_, detail::Readiness::writable, std::forward<F>(handler));
  }

  /// How long one read (or accept), one write (or connect) may wait; zero, the default: for ever. For write_all:
  /// without progress.
  void set_read_timeout(Duration limit) noexcept;
  void set_write_timeout(Duration limit) noexcept;
  void set_timeout(Duration limit) noexcept {
    set_read_timeout(limit);
    set_write_timeout(limit);
  }
  [[nodiscard]] Duration read_timeout() const noexcept;
  [[nodiscard]] Duration write_timeout() const noexcept;
  /// Has the read (or accept) that a fiber waits in now end at once, as if its timeout had passed: with timed_out,
  /// unless data came first. Without one, nothing. Does not wait.
  void expire_read() noexcept;

 protected:
  Descriptor() noexcept = default;
  Descriptor(int fd, detail::FdState* state) noexcept : fd_(fd), state_(state) {}
  Descriptor(Descriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), state_(std::exchange(other.state_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    Descriptor(std::move(other)).swap(*this);
    return *this;
  }
  ~Descriptor() { close(); }
  void swap(Descriptor& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(state_, other.state_);
  }

  /// Carries out an operation on it. Returns the result, or 0 and the error.
  inline int perform(detail::Op& op, detail::Direction direction, std::error_code& error);

  int fd_ = -1;
  detail::FdState* state_ = nullptr;

 private:
  int forget() noexcept;
};

}  // namespace bight
