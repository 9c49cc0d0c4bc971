// SPDX-License-Identifier: Apache-2.0
#include <bight/stream.hpp>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <new>
#include <string>

#include <bight/error.hpp>
#include <bight/offload.hpp>

#include "descriptor_use.hpp"
#include "engine/quiet_write.hpp"

namespace bight {
namespace {

using detail::Direction;
using detail::kLargestTransfer;
using detail::Loop;
using detail::Op;
using detail::OpKind;
using detail::to_error;
using detail::Use;

std::error_code last_error() noexcept { return {errno, std::generic_category()}; }

bool is_always_ready(const struct ::stat& status) noexcept {
  return S_ISREG(status.st_mode) || S_ISBLK(status.st_mode) || S_ISDIR(status.st_mode);
}

bool is_terminal_master(int fd) noexcept {
  unsigned number = 0;
  return ::ioctl(fd, TIOCGPTN, &number) == 0;
}

/// An open file of our own to what `fd` refers to. Empty where that can not be had.
Fd open_anew(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || is_terminal_master(fd)) return Fd();  // opening a master makes a new terminal
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
  constexpr int kKept = O_ACCMODE | O_APPEND;
  return Fd(::open(path.data(), (flags & kKept) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
}

std::string text_of(const char* verb, int fd) { return std::string(verb) + " descriptor " + std::to_string(fd); }

}  // namespace

/// What is to be moved.
struct Stream::Transfer {
  bool reading;
  std::byte* data;
  std::size_t size;

  [[nodiscard]] static Transfer of(std::span<const std::byte> data) noexcept {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): a write only reads
    return {false, const_cast<std::byte*>(data.data()), data.size()};
  }
  [[nodiscard]] Direction direction() const noexcept { return reading ? Direction::reading : Direction::writing; }
};

// --- Making ----------------------------------------------------------------------------------------------------------

Stream Stream::admit(Fd fd, Way way, std::error_code& error) noexcept {
  Loop& loop = Loop::require();
  if (way == Way::calls) error = to_error(loop.engine().sockets().adopt(fd.get()));
  if (error) return {};
  struct ::stat status {};
  const bool is_pipe = ::fstat(fd.get(), &status) == 0 && S_ISFIFO(status.st_mode);
  const int number = fd.release();
  detail::FdState* state = detail::admit(loop, number, error);
  if (state == nullptr) return {};
  state->shared = true;
  state->datagrams = !is_pipe;  // a terminal hands out a line at a time
  return {number, state, way};
}

Stream Stream::adopt(Fd fd, std::error_code& error) noexcept {
  error.clear();
  struct ::stat status {};
  const bool simulated = Loop::require().engine_is_virtual();
  if (!simulated && ::fstat(fd.get(), &status) != 0) {
    error = last_error();
    return {};
  }
  const Way way = is_always_ready(status) ? Way::workers : S_ISSOCK(status.st_mode) ? Way::messages : Way::calls;
  return admit(std::move(fd), way, error);
}

Stream Stream::share(int fd, std::error_code& error) noexcept {
  error.clear();
  struct ::stat status {};
  if (::fstat(fd, &status) != 0) {
    error = last_error();
    return {};
  }
  const bool simulated = Loop::require().engine_is_virtual();  // its clock does not wait for the real world anyway
  const bool can_wait = !simulated && !is_always_ready(status);
  if (can_wait && (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode))) {
    if (Fd own = open_anew(fd)) return admit(std::move(own), Way::calls, error);
  }
  Fd own(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!own) {
    error = last_error();
    return {};
  }
  const Way way = !can_wait ? Way::workers : S_ISSOCK(status.st_mode) ? Way::messages : Way::poll_then;
  return admit(std::move(own), way, error);
}

Stream Stream::adopt(Fd fd) {
  const int number = fd.get();
  std::error_code error;
  Stream stream = adopt(std::move(fd), error);
  if (error) detail::throw_error(error, text_of("make a stream of", number));
  return stream;
}

Stream Stream::share(int fd) {
  std::error_code error;
  Stream stream = share(fd, error);
  if (error) detail::throw_error(error, text_of("make a stream to", fd));
  return stream;
}

// --- Moving bytes ----------------------------------------------------------------------------------------------------

/// On a worker thread: what does not know how not to block. The data that has moved counts, also for a cancelled fiber.
std::size_t Stream::block(const Use& use, Way way, const Transfer& what, std::error_code& error) {
  if (way == Way::poll_then) {
    Op op(what.reading ? OpKind::poll_in : OpKind::poll_out, use.fd);
    error = to_error(use.perform(op, what.direction()));
    if (error) return 0;
  }
  // So much a pipe takes that is ready; with more the worker would wait for a reader, and nothing could end that.
  const std::size_t size =
      way == Way::poll_then && !what.reading ? std::min<std::size_t>(what.size, PIPE_BUF) : what.size;
  // The worker has a number of its own: ours may be closed, and become another's, before it begins.
  const Fd own(use.valid() ? ::fcntl(use.fd, F_DUPFD_CLOEXEC, 3) : -1);
  if (!own) {
    error = use.valid() ? last_error() : std::make_error_code(std::errc::bad_file_descriptor);
    return 0;
  }
  try {
    const ::ssize_t count = offload([&] {
      const ::ssize_t moved =
          what.reading ? ::read(own.get(), what.data, size) : detail::quiet_write(own.get(), what.data, size);
      return moved < 0 ? -errno : moved;
    });
    error = to_error(static_cast<int>(std::min<::ssize_t>(count, 0)));
    return static_cast<std::size_t>(std::max<::ssize_t>(count, 0));
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  } catch (const std::system_error& failure) {
    error = failure.code();
  }
  return 0;
}

std::size_t Stream::transfer(const Use& use, Way way, const Transfer& what, std::error_code& error) {
  error.clear();
  if (!use.valid()) error = std::make_error_code(std::errc::bad_file_descriptor);
  if (error || what.size == 0) return 0;
  if (way == Way::workers || way == Way::poll_then) return block(use, way, what, error);
  const bool messages = way == Way::messages;
  Op op(what.reading ? (messages ? OpKind::recv : OpKind::read) : (messages ? OpKind::send : OpKind::write), use.fd);
  op.data = what.data;
  op.size = std::min(what.size, kLargestTransfer);
  const int count = detail::settle(use.perform(op, what.direction()), error);
  // How Linux tells the reader of a pseudo-terminal that its other side has been closed.
  if (what.reading && error == std::errc::io_error && is_terminal_master(use.fd)) error.clear();
  return static_cast<std::size_t>(count);
}

std::size_t Stream::read(std::span<std::byte> buffer, std::error_code& error) {
  return transfer(Use(fd_, state_), way_, {true, buffer.data(), buffer.size()}, error);
}

std::size_t Stream::write(std::span<const std::byte> data, std::error_code& error) {
  return transfer(Use(fd_, state_), way_, Transfer::of(data), error);
}

void Stream::write_all(std::span<const std::byte> data, std::error_code& error) {
  error.clear();
  const Use use(fd_, state_);
  const Way way = way_;
  while (!data.empty() && !error) data = data.subspan(transfer(use, way, Transfer::of(data), error));
}

std::size_t Stream::read(std::span<std::byte> buffer) {
  const int fd = fd_;
  std::error_code error;
  const std::size_t count = read(buffer, error);
  if (error) detail::throw_error(error, text_of("read from", fd));
  return count;
}

std::size_t Stream::write(std::span<const std::byte> data) {
  const int fd = fd_;
  std::error_code error;
  const std::size_t count = write(data, error);
  if (error) detail::throw_error(error, text_of("write to", fd));
  return count;
}

void Stream::write_all(std::span<const std::byte> data) {
  const int fd = fd_;
  std::error_code error;
  write_all(data, error);
  if (error) detail::throw_error(error, text_of("write to", fd));
}

bool Stream::is_terminal() const noexcept { return fd_ >= 0 && ::isatty(fd_) == 1; }

// --- Pipes -----------------------------------------------------------------------------------------------------------

Stream Stream::admit_end(int fd, std::error_code& error) noexcept {
  detail::FdState* state = detail::admit(Loop::require(), fd, error);
  if (state == nullptr) return {};
  state->shared = true;  // as soon as it is passed to a child
  return {fd, state, Way::calls};
}

Pipe make_pipe(std::error_code& error) noexcept {
  int ends[2] = {-1, -1};
  error = to_error(Loop::require().engine().sockets().pipe(ends));
  if (error) return {};
  Pipe pipe;
  std::error_code second;
  pipe.reader = Stream::admit_end(ends[0], error);
  pipe.writer = Stream::admit_end(ends[1], second);
  if (!error) error = second;
  if (error) return {};
  return pipe;
}

Pipe make_pipe() {
  std::error_code error;
  Pipe pipe = make_pipe(error);
  if (error) detail::throw_error(error, "make a pipe");
  return pipe;
}

}  // namespace bight
