// SPDX-License-Identifier: Apache-2.0
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "engine/file_op.hpp"

namespace bight::detail {
namespace {

/// Reads of so many bytes at most are tried on the loop's thread: 256 of them, a slice's worth, take about 500 µs.
constexpr std::size_t kReadAtOnce = std::size_t{16} * 1024;

/// openat2(2), or openat(2) where that is not to be had (a kernel before 5.6, a seccomp profile) and not needed.
long open_file(const FileOp& op) noexcept {
  ::open_how how{};
  how.flags = op.flags;
  how.mode = op.mode;
  how.resolve = op.resolve;
  const long fd = ::syscall(SYS_openat2, op.fd, op.path, &how, sizeof how);
  const bool unknown = fd < 0 && (errno == ENOSYS || errno == EPERM);
  if (!unknown || op.resolve != 0) return fd;
  return ::openat(op.fd, op.path, static_cast<int>(op.flags), op.mode);
}

long transfer(const FileOp& op, bool reads) noexcept {
  const auto count = static_cast<int>(op.count);
  const auto flags = static_cast<int>(op.flags);
  if (op.offset == kAtCursor && flags == 0) {  // what has no positions (a tty) knows these only
    return reads ? ::readv(op.fd, op.pieces, count) : ::writev(op.fd, op.pieces, count);
  }
  return reads ? ::preadv2(op.fd, op.pieces, count, op.offset, flags)
               : ::pwritev2(op.fd, op.pieces, count, op.offset, flags);
}

long seek(FileOp& op) noexcept {
  const ::off_t reached = ::lseek(op.fd, op.offset, static_cast<int>(op.flags));
  if (reached < 0) return -1;
  op.offset = reached;
  return 0;
}

long advise(const FileOp& op) noexcept {
  const int error = ::posix_fadvise(op.fd, op.offset, op.length, static_cast<int>(op.flags));
  if (error != 0) errno = error;
  return error != 0 ? -1 : 0;
}

::off_t* place(std::int64_t& offset) noexcept { return offset == kAtCursor ? nullptr : &offset; }

/// Calls that move data from one descriptor to another, with offsets of their own.
long move_data(const FileOp& op) noexcept {
  std::int64_t from = op.offset;
  std::int64_t to = op.other_offset;
  const auto length = static_cast<std::size_t>(op.length);
  switch (op.verb) {
    case FileVerb::splice:
      return ::splice(op.fd, place(from), op.other_fd, place(to), length, static_cast<unsigned>(op.flags));
    case FileVerb::copy_range: return ::copy_file_range(op.fd, place(from), op.other_fd, place(to), length, 0);
    default: return ::sendfile(op.other_fd, op.fd, place(from), length);
  }
}

long call_on_descriptor(FileOp& op) noexcept {
  const auto flags = static_cast<int>(op.flags);
  switch (op.verb) {
    case FileVerb::close: return ::close(op.fd);
    case FileVerb::read: return transfer(op, true);
    case FileVerb::write: return transfer(op, false);
    case FileVerb::seek: return seek(op);
    case FileVerb::sync: return ::fsync(op.fd);
    case FileVerb::data_sync: return ::fdatasync(op.fd);
    case FileVerb::allocate: return ::fallocate(op.fd, flags, op.offset, op.length);
    case FileVerb::truncate: return ::ftruncate(op.fd, op.length);
    case FileVerb::advise: return advise(op);
    case FileVerb::lock: return ::flock(op.fd, flags | LOCK_NB);
    case FileVerb::read_dir: return ::syscall(SYS_getdents64, op.fd, op.data, op.size);
    default: return move_data(op);
  }
}

long call_on_path(const FileOp& op) noexcept {
  const auto flags = static_cast<int>(op.flags);
  switch (op.verb) {
    case FileVerb::open: return open_file(op);
    case FileVerb::stat: return ::statx(op.fd, op.path, flags, op.mode, op.status);
    case FileVerb::set_mode:
      return op.path[0] == '\0' ? ::fchmod(op.fd, op.mode) : ::fchmodat(op.fd, op.path, op.mode, 0);
    case FileVerb::set_owner: return ::fchownat(op.fd, op.path, op.owner, op.group, flags);
    case FileVerb::set_times:
      return op.path[0] == '\0' ? ::futimens(op.fd, op.times) : ::utimensat(op.fd, op.path, op.times, flags);
    case FileVerb::rename:
      return ::renameat2(op.fd, op.path, op.other_fd, op.other_path, static_cast<unsigned>(op.flags));
    case FileVerb::unlink: return ::unlinkat(op.fd, op.path, flags);
    case FileVerb::make_dir: return ::mkdirat(op.fd, op.path, op.mode);
    case FileVerb::symlink: return ::symlinkat(op.path, op.other_fd, op.other_path);
    case FileVerb::link: return ::linkat(op.fd, op.path, op.other_fd, op.other_path, flags);
    default: return ::readlinkat(op.fd, op.path, static_cast<char*>(op.data), op.size);
  }
}

}  // namespace

void run_file_call(FileOp& op) noexcept {
  const bool once = op.verb == FileVerb::close;  // the descriptor is gone, whatever close(2) says
  long result = 0;
  do result = takes_path(op.verb) ? call_on_path(op) : call_on_descriptor(op);
  while (result < 0 && errno == EINTR && !once);
  op.result = static_cast<std::int32_t>(result < 0 ? -errno : result);
  if (once && op.result == -EINTR) op.result = 0;
  if (op.verb == FileVerb::open && op.result >= 0) settle_open(op);
}

bool read_from_memory(FileOp& op) noexcept {
  if (!op.try_first || op.verb != FileVerb::read) return false;
  std::size_t size = 0;
  for (unsigned i = 0; i < op.count; ++i) size += op.pieces[i].iov_len;
  if (size > kReadAtOnce) return false;
  const ::ssize_t count = ::preadv2(op.fd, op.pieces, static_cast<int>(op.count), op.offset, RWF_NOWAIT);
  if (count == 0 || count == static_cast<::ssize_t>(size)) {
    op.result = static_cast<std::int32_t>(count);
    return true;
  }
  // A part of it may be all that the file has, or all that is in memory: it is read again, whole.
  if (count > 0 && op.offset == kAtCursor) ::lseek(op.fd, -count, SEEK_CUR);
  op.missed = true;
  return false;
}

void settle_open(FileOp& op) noexcept {
  struct ::statx status {};
  // What is known of it will do: nobody is to be asked over a network.
  const int failed = ::statx(op.result, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status);
  op.file_type = failed != 0 ? S_IFREG : status.stx_mode & S_IFMT;
  const bool waits = op.file_type == S_IFIFO || op.file_type == S_IFCHR || op.file_type == S_IFSOCK;
  if (waits || (op.flags & (O_NONBLOCK | O_PATH)) != O_NONBLOCK) return;
  const int flags = ::fcntl(op.result, F_GETFL);
  if (flags >= 0) ::fcntl(op.result, F_SETFL, flags & ~O_NONBLOCK);
}

bool never_waits(const FileOp& op) noexcept {
  return op.verb == FileVerb::seek && (op.flags == SEEK_SET || op.flags == SEEK_CUR);
}

bool takes_path(FileVerb verb) noexcept {
  switch (verb) {
    case FileVerb::open:
    case FileVerb::stat:
    case FileVerb::set_mode:
    case FileVerb::set_owner:
    case FileVerb::set_times:
    case FileVerb::rename:
    case FileVerb::unlink:
    case FileVerb::make_dir:
    case FileVerb::symlink:
    case FileVerb::link:
    case FileVerb::read_link: return true;
    default: return false;
  }
}

const char* name_of(FileVerb verb) noexcept {
  switch (verb) {
    case FileVerb::open: return "the opening";
    case FileVerb::close: return "the closing";
    case FileVerb::read: return "a read";
    case FileVerb::write: return "a write";
    case FileVerb::seek: return "a seek";
    case FileVerb::sync:
    case FileVerb::data_sync: return "the syncing";
    case FileVerb::allocate: return "the allocation";
    case FileVerb::truncate: return "the truncation";
    case FileVerb::advise: return "the advice on the use";
    case FileVerb::lock: return "the lock";
    case FileVerb::stat: return "the status";
    case FileVerb::set_mode: return "the permissions";
    case FileVerb::set_owner: return "the owner";
    case FileVerb::set_times: return "the times";
    case FileVerb::rename: return "the renaming";
    case FileVerb::unlink: return "the removal";
    case FileVerb::make_dir: return "the making";
    case FileVerb::symlink: return "a link that points";
    case FileVerb::link: return "a second name";
    case FileVerb::read_link: return "the reading";
    case FileVerb::read_dir: return "the list";
    case FileVerb::splice:
    case FileVerb::copy_range:
    case FileVerb::send_file: return "a copy";
  }
  return "?";
}

}  // namespace bight::detail
