// SPDX-License-Identifier: Apache-2.0
#include <bight/fd_watch.hpp>

#include <cerrno>
#include <string>

#include <bight/error.hpp>

#include "descriptor_use.hpp"

namespace bight {
namespace {

using detail::Direction;
using detail::FdState;
using detail::Loop;
using detail::Op;
using detail::OpKind;

void throw_if(std::error_code error, const char* what, int fd) {
  if (error) detail::throw_error(error, std::string(what) + " of descriptor " + std::to_string(fd));
}

}  // namespace

FdWatch::FdWatch(int fd) : fd_(fd) {
  loop_.enter();
  state_ = &Loop::require().descriptors().watch(fd);
  generation_ = state_->generation;
}

void FdWatch::close() noexcept {
  FdState* state = std::exchange(state_, nullptr);
  if (state == nullptr || !loop_.here()) return;
  if (!state->open || state->generation != generation_) return;  // its owner has closed it
  Loop& loop = *Loop::current();
  detail::abandon(reader_);
  detail::abandon(writer_);
  if (--state->watches == 0 && state->foreign) {
    detail::abandon(state->reader);
    detail::abandon(state->writer);
    loop.engine().forget(fd_);
    loop.descriptors().close(fd_);
  }
}

void FdWatch::wait(Op& op, Op*& mine, std::error_code& error) {
  detail::Use use(fd_, attached() ? state_ : nullptr);
  use.generation = generation_;
  Op* const other = std::exchange(mine, &op);  // a second wait at the same time is refused, and leaves no trace
  error = detail::to_error(use.perform(op, op.kind == OpKind::poll_in ? Direction::reading : Direction::writing));
  mine = other;
}

void FdWatch::wait_readable(std::error_code& error) {
  Op op(OpKind::poll_in, fd_);
  wait(op, reader_, error);
}

void FdWatch::wait_writable(std::error_code& error) {
  Op op(OpKind::poll_out, fd_);
  wait(op, writer_, error);
}

void FdWatch::wait_readable() {
  std::error_code error;
  wait_readable(error);
  throw_if(error, "wait for readability", fd_);
}

void FdWatch::wait_writable() {
  std::error_code error;
  wait_writable(error);
  throw_if(error, "wait for writability", fd_);
}

void wait_readable(int fd, std::error_code& error) { FdWatch(fd).wait_readable(error); }

void wait_writable(int fd, std::error_code& error) { FdWatch(fd).wait_writable(error); }

void wait_readable(int fd) { FdWatch(fd).wait_readable(); }

void wait_writable(int fd) { FdWatch(fd).wait_writable(); }

}  // namespace bight
