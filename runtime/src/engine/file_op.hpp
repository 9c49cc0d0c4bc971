// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "engine/op.hpp"

namespace bight::detail {

/// What can be asked about files. Each is the system call beside it, with that call's parameters in the FileOp's
/// members of the same meaning, and that call's result.
enum class FileVerb : std::uint8_t {
  open,        // openat2(fd, path, {flags, mode, resolve}); result: the descriptor; sets file_type
  close,       // close(fd)
  read,        // preadv2(fd, pieces, count, offset, flags)
  write,       // pwritev2(fd, pieces, count, offset, flags)
  seek,        // lseek(fd, offset, flags); result: 0, and offset is the new one
  sync,        // fsync(fd)
  data_sync,   // fdatasync(fd)
  allocate,    // fallocate(fd, flags, offset, length)
  truncate,    // ftruncate(fd, length)
  advise,      // posix_fadvise(fd, offset, length, flags)
  lock,        // flock(fd, flags), always with LOCK_NB
  stat,        // statx(fd, path, flags, mode is the mask, status)
  set_mode,    // fchmodat(fd, path, mode); fchmod(fd, mode) when path is empty
  set_owner,   // fchownat(fd, path, owner, group, flags)
  set_times,   // utimensat(fd, path, times, flags)
  rename,      // renameat2(fd, path, other_fd, other_path, flags)
  unlink,      // unlinkat(fd, path, flags)
  make_dir,    // mkdirat(fd, path, mode)
  symlink,     // symlinkat(path, other_fd, other_path): path is what the link says
  link,        // linkat(fd, path, other_fd, other_path, flags)
  read_link,   // readlinkat(fd, path, data, size)
  read_dir,    // getdents64(fd, data, size)
  splice,      // splice(fd, offset, other_fd, other_offset, length, flags)
  copy_range,  // copy_file_range(fd, offset, other_fd, other_offset, length, 0)
  send_file,   // sendfile(other_fd, fd, offset, length)
};

/// Where a read, write, splice or copy takes place when it is not told: at the open file's own cursor, which it moves.
inline constexpr std::int64_t kAtCursor = -1;

/// An operation on a file or a path. As every operation it stays at its address, with all it points to (paths, pieces,
/// buffers), until it is finished.
///
/// Its descriptor is not in the FdTable: any number of operations may be under way on one file. Whoever starts one sees
/// to it that the descriptor stays open until the operation is finished, so that nothing ever names a number that has
/// become another file's.
struct FileOp : Op {
  explicit FileOp(FileVerb what, int descriptor = AT_FDCWD) noexcept : Op(OpKind::file, descriptor), verb(what) {}

  /// The one piece of a read or write that has no others.
  void use_piece(void* where, std::size_t length_of_it) noexcept {
    piece = {where, length_of_it};
    pieces = &piece;
    count = 1;
  }

  FileVerb verb;
  bool non_blocking = false;  // the descriptor is O_NONBLOCK and may be waited for: -EAGAIN is an answer
  bool appends = false;       // a write to what is open for appending: it goes to the end, wherever the cursor is
  bool try_first = false;     // a read whose data is likely to be in memory: see read_from_memory()
  bool missed = false;        // it was not
  bool to_device = false;     // a read or write that the device is likely to see: it is not to be kept waiting
  bool insist = false;        // the engine's own: trying was not enough
  unsigned mode = 0;          // permissions, or a mask
  int other_fd = AT_FDCWD;    // the second descriptor or directory
  unsigned count = 0;         // of pieces
  std::uint64_t flags = 0;    // of the call
  std::uint64_t resolve = 0;  // open: RESOLVE_…
  std::int64_t offset = kAtCursor;
  std::int64_t other_offset = kAtCursor;
  std::int64_t length = 0;
  const char* path = "";
  const char* other_path = "";
  const ::iovec* pieces = nullptr;
  ::iovec piece{};
  struct ::statx* status = nullptr;
  const ::timespec* times = nullptr;
  unsigned owner = ~0U;
  unsigned group = ~0U;
  ::mode_t file_type = 0;         // open: S_IFREG, S_IFDIR, S_IFIFO …
  std::uint64_t scratch[3] = {};  // the engine's own
};

/// What Engine::start_file says.
enum class FileStart : std::uint8_t {
  done,      // finished already; the result is there
  started,   // under way: it will be finished by a wait()
  blocking,  // this engine can not but block for it: run_file_call() on another thread
};

/// Makes the plain system call, and waits for it; sets the result. Any thread. Repeats what a signal interrupted.
void run_file_call(FileOp& op) noexcept;

/// Reads what is in the page cache already, at once, if `op` says that this is worth trying. Whether that was all that
/// was asked for; else nothing has happened, and op.missed is set. That saves a warm read the way through the ring (a
/// third of its time) or, where there is none, to a thread and back (most of it).
[[nodiscard]] bool read_from_memory(FileOp& op) noexcept;

/// What remains to be done to a descriptor that an open has just brought: finds out the file's type, and has the
/// descriptor of what can not make anybody wait (files, directories, block devices) lose the O_NONBLOCK that it was
/// opened with.
void settle_open(FileOp& op) noexcept;

/// Whether the call never waits for a device, whatever the file: then it is made at once.
[[nodiscard]] bool never_waits(const FileOp& op) noexcept;

/// Whether it is about a path, not (only) about an open file.
[[nodiscard]] bool takes_path(FileVerb verb) noexcept;

[[nodiscard]] const char* name_of(FileVerb verb) noexcept;

}  // namespace bight::detail
