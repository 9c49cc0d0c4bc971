// SPDX-License-Identifier: Apache-2.0
#include <bight/descriptor.hpp>

#include <cerrno>
#include <new>

#include <bight/check.hpp>

#include "descriptor_use.hpp"

namespace bight {

using detail::Direction;
using detail::Loop;
using detail::Op;
using detail::OpKind;

namespace detail {

FdState* admit(Loop& loop, int fd, std::error_code& error) noexcept {
  try {
    return &loop.descriptors().open(fd);
  } catch (const std::bad_alloc&) {
    loop.engine().sockets().close(fd);
    error = std::make_error_code(std::errc::not_enough_memory);
    return nullptr;
  }
}

}  // namespace detail

/// The loop knows it no more; returns the number.
int Descriptor::forget() noexcept {
  BIGHT_CHECK(Loop::current() != nullptr,
              "a descriptor was closed outside its loop: sockets, streams and files must not outlive run()");
  Loop& loop = *Loop::current();
  detail::abandon(state_->reader);
  detail::abandon(state_->writer);
  loop.engine().forget(fd_);
  loop.descriptors().close(fd_);
  state_ = nullptr;
  return std::exchange(fd_, -1);
}

void Descriptor::close() noexcept {
  if (fd_ >= 0) {
    const int fd = forget();
    Loop::current()->engine().sockets().close(fd);
  }
}

Fd Descriptor::release() noexcept {
  if (fd_ < 0) return Fd();
  state_->shared = true;  // it goes on after this, so the engine has to forget it explicitly
  return Fd(forget());
}

void Descriptor::wait_readable(std::error_code& error) {
  Op op(OpKind::poll_in, fd_);
  perform(op, Direction::reading, error);
}

void Descriptor::wait_writable(std::error_code& error) {
  Op op(OpKind::poll_out, fd_);
  perform(op, Direction::writing, error);
}

void Descriptor::set_read_timeout(Duration limit) noexcept {
  if (state_ != nullptr) state_->read_timeout = limit;
}

void Descriptor::set_write_timeout(Duration limit) noexcept {
  if (state_ != nullptr) state_->write_timeout = limit;
}

Duration Descriptor::read_timeout() const noexcept {
  return state_ != nullptr ? state_->read_timeout : Duration::zero();
}

Duration Descriptor::write_timeout() const noexcept {
  return state_ != nullptr ? state_->write_timeout : Duration::zero();
}

void Descriptor::expire_read() noexcept {
  if (state_ != nullptr) detail::expire(state_->reader);
}

}  // namespace bight
