// SPDX-License-Identifier: Apache-2.0
#include "engine/file_ring.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>

namespace bight::detail {
namespace {

/// What is in the page cache the kernel copies while it takes the submission, on the loop's thread. Beyond so many
/// bytes (about 10 µs of copying) a thread of the kernel's does that instead, lest the loop's other fibers wait.
constexpr std::size_t kCopiedAtOnce = std::size_t{64} * 1024;

constexpr unsigned kTruncate = 55;  // IORING_OP_FTRUNCATE (Linux 6.9), which older headers do not name

constexpr unsigned kNone = ~0U;

unsigned code_of(const FileOp& op) noexcept {
  switch (op.verb) {
    case FileVerb::open: return IORING_OP_OPENAT2;
    case FileVerb::close: return IORING_OP_CLOSE;
    case FileVerb::read: return op.count == 1 ? IORING_OP_READ : IORING_OP_READV;
    case FileVerb::write: return op.count == 1 ? IORING_OP_WRITE : IORING_OP_WRITEV;
    case FileVerb::sync:
    case FileVerb::data_sync: return IORING_OP_FSYNC;
    case FileVerb::allocate: return IORING_OP_FALLOCATE;
    case FileVerb::truncate: return kTruncate;
    case FileVerb::advise: return IORING_OP_FADVISE;
    case FileVerb::stat: return IORING_OP_STATX;
    case FileVerb::rename: return IORING_OP_RENAMEAT;
    case FileVerb::unlink: return IORING_OP_UNLINKAT;
    case FileVerb::make_dir: return IORING_OP_MKDIRAT;
    case FileVerb::symlink: return IORING_OP_SYMLINKAT;
    case FileVerb::link: return IORING_OP_LINKAT;
    case FileVerb::splice: return IORING_OP_SPLICE;
    case FileVerb::seek:
    case FileVerb::lock:
    case FileVerb::set_mode:
    case FileVerb::set_owner:
    case FileVerb::set_times:
    case FileVerb::read_link:
    case FileVerb::read_dir:
    case FileVerb::copy_range:
    case FileVerb::send_file: return kNone;
  }
  return kNone;
}

std::uint64_t address(const void* of) noexcept { return reinterpret_cast<std::uintptr_t>(of); }

void prepare_open(io_uring_sqe& sqe, FileOp& op) noexcept {
  static_assert(sizeof op.scratch ==
                3 * sizeof(std::uint64_t));  // struct open_how, which the kernel reads on submission
  op.scratch[0] = op.flags;
  op.scratch[1] = op.mode;
  op.scratch[2] = op.resolve;
  sqe.addr = address(op.path);
  sqe.off = address(op.scratch);
  sqe.len = sizeof op.scratch;
}

/// The kernel's own "at the cursor" leaves the cursor where it was when a transfer is cut short by an error (a full
/// disk: seen with Linux 6.18), so that what comes next would overwrite. Therefore it is asked for here and set
/// afterwards. What has no positions says so, and has none to lose.
std::int64_t find_cursor(const FileOp& op) noexcept {
  return op.appends ? kAtCursor : std::int64_t{::lseek(op.fd, 0, SEEK_CUR)};
}

void set_cursor(const FileOp& op) noexcept {
  const auto was = static_cast<std::int64_t>(op.scratch[0]);
  if (op.result > 0 && was != kAtCursor) ::lseek(op.fd, was + op.result, SEEK_SET);
}

void prepare_transfer(io_uring_sqe& sqe, FileOp& op) noexcept {
  std::size_t size = 0;
  for (unsigned i = 0; i < op.count; ++i) size += op.pieces[i].iov_len;
  if (op.count == 1) {
    sqe.addr = address(op.pieces->iov_base);
    sqe.len = static_cast<std::uint32_t>(op.pieces->iov_len);
  } else {
    sqe.addr = address(op.pieces);
    sqe.len = op.count;
  }
  op.scratch[0] = static_cast<std::uint64_t>(op.offset == kAtCursor ? find_cursor(op) : op.offset);
  sqe.off = op.scratch[0];
  sqe.rw_flags = static_cast<int>(op.flags);
  if (size > kCopiedAtOnce) sqe.flags |= IOSQE_ASYNC;
}

void prepare_two_paths(io_uring_sqe& sqe, const FileOp& op) noexcept {
  sqe.addr = address(op.path);
  sqe.addr2 = address(op.other_path);
  sqe.len = static_cast<std::uint32_t>(op.other_fd);
  sqe.hardlink_flags = static_cast<std::uint32_t>(op.flags);
}

}  // namespace

void FileRing::init(io_uring& ring, unsigned workers) noexcept {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return;  // then threads do everything
  const std::size_t told = std::min<std::size_t>(probe->ops_len, kCodes);
  for (std::size_t i = 0; i < told; ++i) known_[i] = (probe->ops[i].flags & IO_URING_OP_SUPPORTED) != 0;
  io_uring_free_probe(probe);
  unsigned most[2] = {workers, workers};  // for files, and for what may wait for ever; 0 would be: as it is
  io_uring_register_iowq_max_workers(&ring, most);
}

bool FileRing::offers(const FileOp& op) const noexcept {
  const unsigned code = code_of(op);
  if (code == kNone || code >= kCodes || !known_[code]) return false;
  // Its length has 32 bits there.
  return op.verb != FileVerb::advise || op.length <= std::numeric_limits<std::uint32_t>::max();
}

void FileRing::prepare(io_uring_sqe& sqe, FileOp& op) noexcept {
  io_uring_prep_rw(static_cast<int>(code_of(op)), &sqe, op.fd, nullptr, 0, 0);
  switch (op.verb) {
    case FileVerb::open: prepare_open(sqe, op); break;
    case FileVerb::read:
    case FileVerb::write: prepare_transfer(sqe, op); break;
    case FileVerb::data_sync: sqe.fsync_flags = IORING_FSYNC_DATASYNC; break;
    case FileVerb::allocate:
      sqe.off = static_cast<std::uint64_t>(op.offset);
      sqe.addr = static_cast<std::uint64_t>(op.length);
      sqe.len = static_cast<std::uint32_t>(op.flags);
      break;
    case FileVerb::truncate: sqe.off = static_cast<std::uint64_t>(op.length); break;
    case FileVerb::advise:
      sqe.off = static_cast<std::uint64_t>(op.offset);
      sqe.len = static_cast<std::uint32_t>(op.length);
      sqe.fadvise_advice = static_cast<std::uint32_t>(op.flags);
      break;
    case FileVerb::stat:
      sqe.addr = address(op.path);
      sqe.off = address(op.status);
      sqe.len = op.mode;
      sqe.statx_flags = static_cast<std::uint32_t>(op.flags);
      break;
    case FileVerb::rename:
    case FileVerb::link: prepare_two_paths(sqe, op); break;
    case FileVerb::symlink:  // the directory of the new name is the descriptor here
      sqe.fd = op.other_fd;
      sqe.addr = address(op.path);
      sqe.addr2 = address(op.other_path);
      break;
    case FileVerb::unlink:
      sqe.addr = address(op.path);
      sqe.unlink_flags = static_cast<std::uint32_t>(op.flags);
      break;
    case FileVerb::make_dir:
      sqe.addr = address(op.path);
      sqe.len = op.mode;
      break;
    case FileVerb::splice:
      io_uring_prep_splice(&sqe, op.fd, op.offset, op.other_fd, op.other_offset, static_cast<unsigned>(op.length),
                           static_cast<unsigned>(op.flags));
      break;
    default: break;  // close and sync have no parameters; others are not offered
  }
  if (op.insist) sqe.flags |= IOSQE_ASYNC;
}

bool FileRing::settle(FileOp& op, int result) noexcept {
  op.result = result;
  if (op.verb == FileVerb::close) {
    if (result == -EINTR) op.result = 0;  // the descriptor is gone, whatever interrupted the rest
  } else if (op.cancelled) {
    if (result == -EINTR || result == -EAGAIN) op.result = -ECANCELED;
  } else if (result == -EINTR) {
    return false;
  } else if (result == -EAGAIN && !op.insist && !op.non_blocking) {
    // A file system that can neither do it at once nor come back to it: the kernel's threads can wait.
    op.insist = true;
    return false;
  }
  if (op.verb == FileVerb::open && op.result >= 0) settle_open(op);
  const bool moves = op.verb == FileVerb::read || op.verb == FileVerb::write;
  if (moves && op.offset == kAtCursor) set_cursor(op);
  return true;
}

}  // namespace bight::detail
