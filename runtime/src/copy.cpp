// SPDX-License-Identifier: Apache-2.0
#include <bight/copy.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>

#include <bight/deadline.hpp>
#include <bight/detail/socket_copy.hpp>
#include <bight/error.hpp>

#include "engine/quiet_write.hpp"
#include "file_state.hpp"
#include "loop.hpp"
#include "perform.hpp"

namespace bight {
namespace {

using detail::CursorTurn;
using detail::FileAccess;
using detail::FileOp;
using detail::FileUse;
using detail::FileVerb;
using detail::Loop;

constexpr std::uint64_t kPiece = std::uint64_t{1} * 1024 * 1024;       // a cancellation waits for so much
constexpr std::uint64_t kFilePiece = std::uint64_t{16} * 1024 * 1024;  // the same between files, where it may be shared
constexpr std::size_t kBuffer = std::size_t{256} * 1024;

/// A second number for a descriptor's open file, that nobody closes under a thread that uses it.
class Borrowed {
 public:
  explicit Borrowed(const Descriptor& of) noexcept : fd_(::fcntl(of.fd(), F_DUPFD_CLOEXEC, 0)) {
    if (!fd_) return;
    Loop& loop = Loop::require();
    loop.descriptors()[of.fd()].shared = true;  // closing the first number does not end the open file
    loop.engine().sockets().adopt(fd_.get());   // a connection that was accepted may be blocking yet
  }
  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 private:
  Fd fd_;
};

using Progress = detail::CopyProgress;

/// Notes what a call has moved; nothing is the end.
void note(Progress& progress, std::size_t count) noexcept {
  progress.add(count);
  progress.over = count == 0;
}

/// What the kernel answers when it can not move bytes between these two by itself.
bool wants_buffer(std::error_code error) noexcept {
  return error == std::errc::invalid_argument || error == std::errc::cross_device_link ||
         error == std::errc::function_not_supported || error == std::errc::operation_not_supported ||
         error == std::errc::bad_file_descriptor || error == std::errc::operation_not_permitted;
}

bool would_block(std::error_code error) noexcept { return error == std::errc::resource_unavailable_try_again; }

// --- By the kernel
// ----------------------------------------------------------------------------------------------------

/// Each of these moves what it can and returns false when the rest wants a buffer.

bool between_files(File& from, File& to, Progress& progress, std::error_code& error) {
  const FileUse source(FileAccess::state(from), error);
  const FileUse target(FileAccess::state(to), error);
  if (!source || !target) {
    error = std::make_error_code(std::errc::bad_file_descriptor);
    return true;
  }
  // In the order of their addresses, lest two copies in opposite directions wait for each other.
  const bool forward = &*source < &*target;
  const CursorTurn first(forward ? *source : *target, true, error);
  if (error) return true;
  const CursorTurn second(forward ? *target : *source, true, error);
  while (progress.goes_on(error)) {
    FileOp op(FileVerb::copy_range, source->fd);
    op.other_fd = target->fd;
    op.length = static_cast<std::int64_t>(std::min(progress.left(), kFilePiece));
    const std::size_t count = detail::settle(op, error);
    if (progress.copied == 0 && (error ? wants_buffer(error) : count == 0)) {
      error.clear();  // files of the kernel's (/proc) look empty to it: read(2) knows better
      return false;
    }
    note(progress, count);
  }
  return true;
}

/// sendfile(2), on a thread, for the file may have to be read from the disk; it takes what the other side has room for.
bool from_file(File& from, Descriptor& to, Progress& progress, std::error_code& error) {
  const FileUse source(FileAccess::state(from), error);
  if (!source) return true;
  const CursorTurn turn(*source, true, error);
  if (error) return true;
  const Borrowed target(to);
  if (!target) return false;
  while (progress.goes_on(error)) {
    FileOp op(FileVerb::send_file, source->fd);
    op.other_fd = target.get();
    op.length = static_cast<std::int64_t>(std::min(progress.left(), kPiece));
    const std::size_t count = detail::settle(op, error);
    if (would_block(error)) {
      to.wait_writable(error);
    } else if (error && progress.copied == 0 && wants_buffer(error)) {
      error.clear();
      return false;
    } else {
      note(progress, count);
    }
  }
  return true;
}

bool from_pipe_to_file(Stream& from, File& to, Progress& progress, std::error_code& error) {
  const FileUse target(FileAccess::state(to), error);
  if (!target) return true;
  const CursorTurn turn(*target, true, error);
  if (error) return true;
  const Borrowed source(from);
  if (!source) return false;
  while (progress.goes_on(error)) {
    from.wait_readable(error);
    if (error) return true;
    FileOp op(FileVerb::splice, source.get());
    op.other_fd = target->fd;
    op.length = static_cast<std::int64_t>(std::min(progress.left(), kPiece));
    op.flags = SPLICE_F_NONBLOCK;
    op.non_blocking = true;
    const std::size_t count = detail::settle(op, error);
    if (would_block(error)) {
      error.clear();
    } else if (error && progress.copied == 0 && wants_buffer(error)) {
      error.clear();
      return false;
    } else {
      note(progress, count);
    }
  }
  return true;
}

/// Between descriptors that never block, one of them a pipe's: at once, on the loop's thread.
bool through_pipe(Descriptor& from, Descriptor& to, Progress& progress, std::error_code& error) {
  const Borrowed source(from);  // for their flags; the numbers are as good
  const Borrowed target(to);
  if (!source || !target) return false;
  Loop& loop = Loop::require();
  bool tried = false;  // with `from` known to be readable
  while (progress.goes_on(error)) {
    if (loop.require_fiber().cancel_pending()) {
      error = std::make_error_code(std::errc::operation_canceled);
      return true;
    }
    const std::uint64_t length = std::min(progress.left(), kPiece);
    const ::ssize_t count = detail::quiet_splice(source.get(), target.get(), length);
    if (count >= 0) {
      note(progress, static_cast<std::size_t>(count));
      loop.charge();
      tried = false;
    } else if (errno == EAGAIN) {
      tried ? to.wait_writable(error) : from.wait_readable(error);
      tried = !tried;
    } else if (errno != EINTR) {
      error = std::error_code(errno, std::generic_category());
      if (progress.copied != 0 || !wants_buffer(error)) return true;
      error.clear();
      return false;
    }
  }
  return true;
}

/// Whether it is a pipe that never blocks.
bool is_pipe(const Descriptor* descriptor) noexcept {
  if (descriptor == nullptr) return false;
  struct ::stat status {};
  if (::fstat(descriptor->fd(), &status) != 0 || !S_ISFIFO(status.st_mode)) return false;
  return (::fcntl(descriptor->fd(), F_GETFL) & O_NONBLOCK) != 0;
}

/// Whether the engine has taken in what came to a socket, or may do so: only a read gets that.
bool taken_ahead(const Socket& socket) noexcept {
  return socket.fd() >= 0 && Loop::require().engine().takes_ahead(socket.fd());
}

bool by_kernel(CopyEnd from, CopyEnd to, Progress& progress, std::error_code& error) {
  if (Loop::require().engine_is_virtual()) return false;  // the kernel knows nothing of those descriptors
  if (from.file() != nullptr && to.file() != nullptr) return between_files(*from.file(), *to.file(), progress, error);
  if (from.file() != nullptr) {
    const bool fits = to.socket() != nullptr || is_pipe(to.stream());
    return fits && from_file(*from.file(), *to.descriptor(), progress, error);
  }
  if (to.file() != nullptr) {
    return is_pipe(from.stream()) && from_pipe_to_file(*from.stream(), *to.file(), progress, error);
  }
  if (from.socket() != nullptr && to.socket() != nullptr) {
    detail::copy_sockets(*from.socket(), *to.socket(), progress, error);
    return !progress.goes_on(error);  // else a short rest is left
  }
  const bool pipes = (is_pipe(from.stream()) && (to.socket() != nullptr || is_pipe(to.stream()))) ||
                     (is_pipe(to.stream()) && from.socket() != nullptr && !taken_ahead(*from.socket()));
  return pipes && through_pipe(*from.descriptor(), *to.descriptor(), progress, error);
}

// --- Through a buffer
// -------------------------------------------------------------------------------------------------

std::size_t read_some(CopyEnd from, std::span<std::byte> buffer, std::error_code& error) {
  if (from.file() != nullptr) return from.file()->read(buffer, error);
  return from.stream() != nullptr ? from.stream()->read(buffer, error) : from.socket()->read(buffer, error);
}

std::size_t write_some(CopyEnd to, std::span<const std::byte> data, std::error_code& error) {
  if (to.file() != nullptr) return to.file()->write(data, error);
  return to.stream() != nullptr ? to.stream()->write(data, error) : to.socket()->write(data, error);
}

void through_buffer(CopyEnd from, CopyEnd to, Progress& progress, std::error_code& error) {
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kBuffer);
  while (progress.goes_on(error)) {
    const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kBuffer, progress.left()));
    std::span<const std::byte> data(buffer.get(), read_some(from, {buffer.get(), wanted}, error));
    if (error) return;
    progress.over = data.empty();
    while (!data.empty() && !error) {
      const std::size_t count = write_some(to, data, error);
      progress.copied += count;
      data = data.subspan(count);
    }
    if (data.empty() || from.file() == nullptr) continue;
    const Shield shield;
    std::error_code unheeded;
    from.file()->seek(-static_cast<std::int64_t>(data.size()), SeekFrom::current, unheeded);
  }
}

}  // namespace

std::uint64_t copy_data(CopyEnd from, CopyEnd to, std::uint64_t limit, std::error_code& error) {
  error.clear();
  Progress progress;
  progress.limit = limit;
  if (from.file() != nullptr && from.file() == to.file()) error = std::make_error_code(std::errc::invalid_argument);
  if (!error && !by_kernel(from, to, progress, error) && !error) through_buffer(from, to, progress, error);
  return progress.copied;
}

std::uint64_t copy_data(CopyEnd from, CopyEnd to, std::error_code& error) {
  return copy_data(from, to, kCopyAll, error);
}

std::uint64_t copy_data(CopyEnd from, CopyEnd to, std::uint64_t limit) {
  std::error_code error;
  const std::uint64_t copied = copy_data(from, to, limit, error);
  if (error) detail::throw_error(error, "copy: after " + std::to_string(copied) + " bytes");
  return copied;
}

}  // namespace bight
