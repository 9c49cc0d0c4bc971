// SPDX-License-Identifier: Apache-2.0
#include "engine/quiet_write.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace bight::detail {
namespace {

constexpr int kNoSignal = 0x100;  // RWF_NOSIGNAL, Linux 6.18

/// Makes a call that is to move `size` bytes. Holds SIGPIPE back from this thread meanwhile, and takes away the one
/// that the call has caused. (It is the thread's that made it, so nobody else can have got it.)
template <class Call>
::ssize_t with_signal_blocked(std::size_t size, Call&& call) noexcept {
  sigset_t pipe_signal;
  sigset_t before;
  sigset_t pending;
  ::sigemptyset(&pipe_signal);
  ::sigaddset(&pipe_signal, SIGPIPE);
  ::sigpending(&pending);
  const bool was_pending = ::sigismember(&pending, SIGPIPE) == 1;
  ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  const ::ssize_t moved = call();
  const int error = errno;
  // One that has waited may have moved some before the reader went: then it is a short one, and has caused it as well.
  const bool caused = moved < 0 ? error == EPIPE : static_cast<std::size_t>(moved) < size;
  if (caused && !was_pending) {
    const timespec at_once{};
    while (::sigtimedwait(&pipe_signal, nullptr, &at_once) < 0 && errno == EINTR) {
    }
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return moved;
}

}  // namespace

::ssize_t quiet_write(int fd, const void* data, std::size_t size) noexcept {
  const ::iovec piece{const_cast<void*>(data), size};  // NOLINT(cppcoreguidelines-pro-type-const-cast): it only reads
  const ::ssize_t written = ::pwritev2(fd, &piece, 1, -1, kNoSignal);
  // An older kernel, one that a filter hides the call from, or a device driver without vectored writes.
  if (written >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EPERM && errno != EINVAL)) return written;
  return with_signal_blocked(size, [&] { return ::write(fd, data, size); });
}

::ssize_t quiet_splice(int from, int to, std::size_t size) noexcept {
  return with_signal_blocked(size, [&] { return ::splice(from, nullptr, to, nullptr, size, SPLICE_F_NONBLOCK); });
}

}  // namespace bight::detail
