// SPDX-License-Identifier: Apache-2.0
#include <bight/net/copy_both.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include <bight/error.hpp>
#include <bight/fd.hpp>
#include <bight/run.hpp>

namespace bight::net::detail {
namespace {

// Through this process a piece costs two copies of its bytes; through a pipe, the handling of its pages, twice. The
// latter is worth it for pieces such as these, when they come in a row; and no more when such small ones do.
constexpr std::size_t kLarge = std::size_t{32} * 1024;
constexpr unsigned kLargeInARow = 2;
constexpr std::size_t kSmall = std::size_t{8} * 1024;
constexpr unsigned kSmallInARow = 16;
constexpr int kPipeSize = 256 * 1024;
constexpr unsigned kTurn = 8;  // pieces after which others get their turn

/// Holds SIGPIPE back from this thread, and takes away the one that is caused meanwhile: for splice(2) knows no
/// MSG_NOSIGNAL.
class NoPipeSignal {
 public:
  NoPipeSignal() noexcept {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;
  ~NoPipeSignal() {
    if (caused && ::sigismember(&before_, SIGPIPE) == 0) {
      const ::timespec at_once{};
      while (::sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) {
      }
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  bool caused = false;

 private:
  ::sigset_t pipe_;
  ::sigset_t before_;
};

/// splice(2), again when a signal came.
::ssize_t splice_some(int from, int to, std::size_t most) noexcept {
  ::ssize_t count = 0;
  do count = ::splice(from, nullptr, to, nullptr, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  while (count < 0 && errno == EINTR);
  return count;
}

void make_non_blocking(const Socket& socket) noexcept {
  const int flags = ::fcntl(socket.fd(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(socket.fd(), F_SETFL, flags | O_NONBLOCK);
}

/// One direction by splice(2), as long as that is the better way.
class Splice {
 public:
  Splice(Socket& from, Socket& to, std::uint64_t& copied, const CopyWatch& watch) noexcept
      : from_(from), to_(to), copied_(copied), watch_(watch) {}

  /// True: the stream has ended, or an error has come. False: the other way is better now, or this one not to be had.
  [[nodiscard]] bool run(std::error_code& error) {
    if (!pipe_[0] && !make_pipe()) return false;
    if (!from_.set_direct(true)) return false;
    unsigned small = 0;
    for (unsigned turn = 1; small < kSmallInARow; ++turn) {
      const ::ssize_t count = splice_some(from_.fd(), pipe_[1].get(), kPipeSize);
      if (count == 0) return true;
      if (count > 0) {
        watch_.moved();
        drain(static_cast<std::size_t>(count), error);
        small = static_cast<std::size_t>(count) < kSmall ? small + 1 : 0;
        if (!error && turn % kTurn == 0) let_others(error);
      } else if (errno == EAGAIN) {
        from_.wait_readable(error);
      } else {
        error.assign(errno, std::generic_category());
      }
      if (error) return true;
    }
    static_cast<void>(from_.set_direct(false));
    return false;
  }

 private:
  bool make_pipe() noexcept {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    pipe_[0] = Fd(ends[0]);
    pipe_[1] = Fd(ends[1]);
    ::fcntl(ends[1], F_SETPIPE_SZ, kPipeSize);  // if it may not be so large, it works with less
    make_non_blocking(from_);
    make_non_blocking(to_);
    return true;
  }

  void drain(std::size_t left, std::error_code& error) {
    while (left > 0 && !error) {
      ::ssize_t count = 0;
      int why = 0;
      {
        NoPipeSignal quiet;
        count = splice_some(pipe_[0].get(), to_.fd(), left);
        why = errno;
        // Also when it has moved some: it goes out in several sends, of which a later one may have met the end.
        quiet.caused = count < 0 ? why == EPIPE : static_cast<std::size_t>(count) < left;
      }
      if (count > 0) {
        left -= static_cast<std::size_t>(count);
        copied_ += static_cast<std::uint64_t>(count);
        watch_.moved();
      } else if (count < 0 && why == EAGAIN) {
        to_.wait_writable(error);
      } else {
        error.assign(count < 0 ? why : EPIPE, std::generic_category());
      }
    }
  }

  static void let_others(std::error_code& error) {
    try {
      yield();
    } catch (const Cancelled&) {
      error = std::make_error_code(std::errc::operation_canceled);
    }
  }

  Socket& from_;
  Socket& to_;
  std::uint64_t& copied_;
  const CopyWatch& watch_;
  Fd pipe_[2];
};

}  // namespace

void copy_sockets(Socket& from, Socket& to, std::uint64_t& copied, const CopyWatch& watch, std::error_code& error) {
  const bool simulated = this_loop::engine_name() == "sim";
  Splice splice(from, to, copied, watch);
  for (unsigned large = 0;;) {
    const Chunk chunk = from.read(error);
    if (error || !chunk) return;
    watch.moved();
    to.write_all(chunk, error);
    if (error) return;
    copied += chunk.size();
    watch.moved();
    large = chunk.size() >= kLarge ? large + 1 : 0;
    if (simulated || large < kLargeInARow) continue;
    if (splice.run(error)) {
      static_cast<void>(from.set_direct(false));
      return;
    }
    large = 0;
  }
}

}  // namespace bight::net::detail
