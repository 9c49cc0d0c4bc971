// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_file_attempts.hpp"

#include <algorithm>
#include <cerrno>

namespace bight::detail {
namespace {

std::span<const ::iovec> pieces_of(const FileOp& op) noexcept { return {op.pieces, op.count}; }

std::uint64_t bytes_of(const FileOp& op) noexcept {
  std::uint64_t total = 0;
  for (const ::iovec& piece : pieces_of(op)) total += piece.iov_len;
  return total;
}

double share(SimRandom& random) noexcept {
  const std::uint64_t kind = random.between(0, 3);
  return kind == 0 ? 0 : kind == 1 ? 1 : static_cast<double>(random.between(1, 99)) / 100;
}

}  // namespace

SimOutage::SimOutage(SimRandom& random) noexcept
    : names_kept(share(random)), survival{share(random), share(random), random.chance(0.5) ? 512U : 4096U} {}

int SimFileAttempts::attempt(FileOp& op) {
  ++core_.counters().file_operations;
  if (const int error = fault(op); error != 0) return error;
  files_.space().closed = disk_full();
  const bool transfers = op.verb == FileVerb::read || op.verb == FileVerb::write;
  const bool copies = op.verb == FileVerb::copy_range || op.verb == FileVerb::send_file;
  const int result = transfers ? transfer_less(op) : copies ? copy_less(op) : carry_out(op);
  if (files_.space().closed && result == -ENOSPC) ++core_.counters().disk_full;
  files_.space().closed = false;
  return result;
}

// --- Faults ----------------------------------------------------------------------------------------------------------

int SimFileAttempts::fault(const FileOp& op) {
  switch (op.verb) {
    case FileVerb::open: return open_fault();
    case FileVerb::read:
    case FileVerb::write: return transfer_fault(op);
    case FileVerb::sync:
    case FileVerb::data_sync: return sync_fault(op);
    case FileVerb::copy_range:
    case FileVerb::send_file: return copy_fault(op);
    case FileVerb::allocate: fill_disk(); return 0;
    default: return 0;
  }
}

int SimFileAttempts::transfer_fault(const FileOp& op) {
  const bool reads = op.verb == FileVerb::read;
  if (const int error = files_.check_transfer(op.fd, pieces_of(op), op.offset, reads); error != 0) return error;
  if (bytes_of(op) == 0) return 0;
  if (!reads) fill_disk();
  if (!core_.strikes(core_.faults().file_error)) return 0;
  ++core_.counters().file_errors;
  return -EIO;
}

int SimFileAttempts::copy_fault(const FileOp& op) {
  if (descriptors_.find_file(op.fd) == nullptr || descriptors_.find_file(op.other_fd) == nullptr) return 0;
  fill_disk();
  if (!core_.strikes(core_.faults().file_error)) return 0;
  ++core_.counters().file_errors;
  return -EIO;
}

void SimFileAttempts::fill_disk() {
  if (!core_.strikes(core_.faults().no_space)) return;
  full_until_ = core_.now() + core_.some_of(core_.faults().no_space_max);
}

/// What could not be written counts as written from then on, as on Linux: the next sync says that all is well.
int SimFileAttempts::sync_fault(const FileOp& op) {
  const SimDescription* file = descriptors_.find_file(op.fd);
  if (file == nullptr || file->only_path() || !core_.strikes(core_.faults().file_error)) return 0;
  ++core_.counters().file_errors;
  const SimOutage outage(core_.random());
  files_.fail_sync(op.fd, core_.random(), outage.survival);
  return -EIO;
}

int SimFileAttempts::open_fault() {
  if (core_.strikes(core_.faults().open_exhausted)) {
    exhausted_until_ = core_.now() + core_.some_of(core_.faults().exhausted_max);
  }
  if (core_.calm() || core_.now() >= exhausted_until_) return 0;
  ++core_.counters().open_failures;
  return core_.random().chance(0.5) ? -EMFILE : -ENFILE;
}

bool SimFileAttempts::disk_full() { return !core_.calm() && core_.now() < full_until_; }

/// A read or write, of fewer bytes than asked for if the seed says so. Not on a file opened with O_DIRECT, where a rest
/// would not be aligned any more.
int SimFileAttempts::transfer_less(FileOp& op) {
  const bool reads = op.verb == FileVerb::read;
  const testing::Faults& faults = core_.faults();
  const SimDescription* file = descriptors_.find_file(op.fd);
  const std::uint64_t asked = bytes_of(op);
  const bool direct = file != nullptr && (file->flags & O_DIRECT) != 0;
  if (direct || asked < 2 || !core_.strikes(reads ? faults.short_read : faults.short_write)) return carry_out(op);
  ++(reads ? core_.counters().short_reads : core_.counters().short_writes);
  std::size_t left = core_.some_of(asked - 1);
  std::vector<::iovec> fewer;
  for (::iovec piece : pieces_of(op)) {
    piece.iov_len = std::min(piece.iov_len, left);
    left -= piece.iov_len;
    fewer.push_back(piece);
  }
  const auto flags = static_cast<int>(op.flags);
  return static_cast<int>(reads ? files_.read(op.fd, fewer, op.offset, flags)
                                : files_.write(op.fd, fewer, op.offset, flags));
}

int SimFileAttempts::copy_less(FileOp& op) {
  if (op.length < 2 || !core_.strikes(core_.faults().short_write)) return carry_out(op);
  ++core_.counters().short_writes;
  const std::int64_t asked = op.length;
  op.length = static_cast<std::int64_t>(core_.some_of(static_cast<std::size_t>(asked - 1)));
  const int result = carry_out(op);
  op.length = asked;
  return result;
}

// --- Calls -----------------------------------------------------------------------------------------------------------

int SimFileAttempts::carry_out(FileOp& op) {
  if (op.fd >= 0 && op.fd < SimDescriptors::kFirst) {  // the real kernel's, with which there is nothing to do here
    if (op.verb != FileVerb::close) return -EOPNOTSUPP;
    run_file_call(op);
    return op.result;
  }
  return takes_path(op.verb) ? on_path(op) : static_cast<int>(on_descriptor(op));
}

std::int64_t SimFileAttempts::on_descriptor(FileOp& op) {
  const auto flags = static_cast<int>(op.flags);
  switch (op.verb) {
    case FileVerb::close: return files_.close(op.fd);
    case FileVerb::read: return files_.read(op.fd, pieces_of(op), op.offset, flags);
    case FileVerb::write: return files_.write(op.fd, pieces_of(op), op.offset, flags);
    case FileVerb::seek: {
      const std::int64_t reached = files_.seek(op.fd, op.offset, flags);
      if (reached < 0) return reached;
      op.offset = reached;
      return 0;
    }
    case FileVerb::sync:
    case FileVerb::data_sync: return files_.sync(op.fd);
    case FileVerb::allocate: return files_.allocate(op.fd, flags, op.offset, op.length);
    case FileVerb::truncate: return files_.truncate(op.fd, op.length);
    case FileVerb::advise: return files_.advise(op.fd, op.offset, op.length, flags);
    case FileVerb::lock: return files_.lock(op.fd, flags);
    case FileVerb::read_dir: return files_.read_dir(op.fd, static_cast<std::byte*>(op.data), op.size);
    case FileVerb::copy_range: return files_.copy_range(op.fd, op.offset, op.other_fd, op.other_offset, op.length);
    case FileVerb::send_file: return files_.send_file(op.other_fd, op.fd, op.offset, op.length);
    default: return -EINVAL;  // splice: one of the two has to be a pipe
  }
}

int SimFileAttempts::on_path(FileOp& op) {
  const auto flags = static_cast<int>(op.flags);
  switch (op.verb) {
    case FileVerb::open: return open(op);
    case FileVerb::stat: return files_.stat(op.fd, op.path, flags, *op.status);
    case FileVerb::set_mode: return files_.set_mode(op.fd, op.path, op.mode);
    case FileVerb::set_owner: return files_.set_owner(op.fd, op.path, op.owner, op.group, flags);
    case FileVerb::set_times: return files_.set_times(op.fd, op.path, op.times, flags);
    case FileVerb::rename:
      return files_.rename(op.fd, op.path, op.other_fd, op.other_path, static_cast<unsigned>(op.flags));
    case FileVerb::unlink: return files_.unlink(op.fd, op.path, flags);
    case FileVerb::make_dir: return files_.make_dir(op.fd, op.path, op.mode);
    case FileVerb::symlink: return files_.symlink(op.path, op.other_fd, op.other_path);
    case FileVerb::link: return files_.link(op.fd, op.path, op.other_fd, op.other_path, flags);
    default: return files_.read_link(op.fd, op.path, static_cast<char*>(op.data), op.size);
  }
}

int SimFileAttempts::open(FileOp& op) {
  const int fd = files_.open(op.fd, op.path, static_cast<int>(op.flags), op.mode, op.resolve);
  if (fd >= 0) op.file_type = descriptors_.find_file(fd)->node->mode & S_IFMT;
  return fd;
}

}  // namespace bight::detail
