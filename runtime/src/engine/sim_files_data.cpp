// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <utility>

#include "engine/sim_files.hpp"

namespace bight::detail {
namespace {

constexpr std::uint64_t kTransferMost = 0x7ffff000;  // Linux's, of one call
constexpr std::uint64_t kSector = 512;
constexpr SimFileTime kDay = SimFileTime{86'400} * 1'000'000'000;

/// The bytes that the pieces hold together, at most what one call moves; or -errno.
std::int64_t total_of(std::span<const ::iovec> pieces) noexcept {
  if (pieces.size() > IOV_MAX) return -EINVAL;
  std::uint64_t total = 0;
  for (const ::iovec& piece : pieces) {
    if (piece.iov_len > SSIZE_MAX - total) return -EINVAL;
    total += piece.iov_len;
  }
  return static_cast<std::int64_t>(std::min(total, kTransferMost));
}

/// Of a position before the start of a file.
bool wraps(std::int64_t offset, std::int64_t length) noexcept {
  return offset < SimFiles::kAtCursor && offset + length >= 0;
}

bool aligned(std::uint64_t value) noexcept { return value % kSector == 0; }

bool aligned(std::span<const ::iovec> pieces) noexcept {
  return std::all_of(pieces.begin(), pieces.end(), [](const ::iovec& piece) {
    return aligned(piece.iov_len) && aligned(reinterpret_cast<std::uintptr_t>(piece.iov_base));
  });
}

}  // namespace

int SimFiles::regular(int fd, SimDescription*& file) const {
  if (const int error = check(fd, file); error != 0) return error;
  if (file->node->is_directory()) return -EISDIR;
  return file->node->is_regular() ? 0 : -EINVAL;
}

int SimFiles::check_transfer(int fd, std::span<const ::iovec> pieces, std::int64_t offset, bool reads) const {
  if (offset < kAtCursor) return -EINVAL;
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  if (reads ? !file->readable() : !file->writable()) return -EBADF;
  const std::int64_t total = total_of(pieces);
  if (total < 0) return static_cast<int>(total);
  if (total == 0) return 0;
  if (!file->node->is_regular()) return file->node->is_directory() ? -EISDIR : -EINVAL;
  const auto at = static_cast<std::uint64_t>(offset == kAtCursor ? static_cast<std::int64_t>(file->cursor) : offset);
  if (at + static_cast<std::uint64_t>(total) > INT64_MAX) return -EINVAL;
  const bool past_end = reads && at >= file->node->content.size();
  if ((file->flags & O_DIRECT) != 0 && !past_end && !(aligned(at) && aligned(pieces))) return -EINVAL;
  return 0;
}

std::int64_t SimFiles::read(int fd, std::span<const ::iovec> pieces, std::int64_t offset, int flags) {
  if ((flags & ~(RWF_HIPRI | RWF_NOWAIT | RWF_DSYNC | RWF_SYNC)) != 0) return -EOPNOTSUPP;
  if (const int error = check_transfer(fd, pieces, offset, true); error != 0) return error;
  SimDescription& file = *descriptors_.find_file(fd);
  SimInode& node = *file.node;
  if (!node.is_regular()) return 0;  // of no bytes
  const std::uint64_t start = offset == kAtCursor ? file.cursor : static_cast<std::uint64_t>(offset);
  auto left = static_cast<std::uint64_t>(total_of(pieces));
  std::uint64_t at = start;
  for (const ::iovec& piece : pieces) {
    const std::size_t wanted = std::min<std::uint64_t>(piece.iov_len, left);
    const std::size_t got = node.content.now().read(at, {static_cast<std::byte*>(piece.iov_base), wanted});
    at += got;
    left -= got;
    if (got < piece.iov_len) break;
  }
  // relatime(8)
  if (node.accessed <= node.modified || node.accessed + kDay < time()) node.accessed = time();
  if (offset == kAtCursor) file.cursor = at;
  return static_cast<std::int64_t>(at - start);
}

std::int64_t SimFiles::write(int fd, std::span<const ::iovec> pieces, std::int64_t offset, int flags) {
  if ((flags & ~(RWF_HIPRI | RWF_NOWAIT | RWF_DSYNC | RWF_SYNC | RWF_APPEND)) != 0) return -EOPNOTSUPP;
  if (const int error = check_transfer(fd, pieces, offset, false); error != 0) return error;
  SimDescription& file = *descriptors_.find_file(fd);
  SimInode& node = *file.node;
  const bool appends = (file.flags & O_APPEND) != 0 || (flags & RWF_APPEND) != 0;
  std::uint64_t start = offset == kAtCursor ? file.cursor : static_cast<std::uint64_t>(offset);
  if (appends) start = node.content.size();
  auto left = static_cast<std::uint64_t>(total_of(pieces));
  if (left == 0) return 0;
  std::uint64_t at = start;
  std::int64_t error = 0;
  for (const ::iovec& piece : pieces) {
    const std::size_t wanted = std::min<std::uint64_t>(piece.iov_len, left);
    const std::int64_t put = write_at(node, at, {static_cast<const std::byte*>(piece.iov_base), wanted});
    if (put < 0) error = put;
    if (put > 0) {
      at += static_cast<std::uint64_t>(put);
      left -= static_cast<std::uint64_t>(put);
    }
    if (put < static_cast<std::int64_t>(wanted) || left == 0) break;
  }
  if (at == start) return error;
  if (offset == kAtCursor) file.cursor = at;
  const bool durable = (file.flags & (O_SYNC | O_DSYNC)) != 0 || (flags & (RWF_SYNC | RWF_DSYNC)) != 0;
  if (durable) node.content.sync();
  return static_cast<std::int64_t>(at - start);
}

/// What fits below the limit of a file's size and on the disk; -EFBIG or -ENOSPC when that is nothing.
std::int64_t SimFiles::write_at(SimInode& node, std::uint64_t offset, std::span<const std::byte> data) {
  if (data.empty()) return 0;
  if (offset >= size_max()) return -EFBIG;
  data = data.first(std::min<std::uint64_t>(data.size(), size_max() - offset));
  const std::size_t written = node.content.write(offset, data);
  if (written == 0) return -ENOSPC;
  node.modified = node.changed = time();
  return static_cast<std::int64_t>(written);
}

std::int64_t SimFiles::seek(int fd, std::int64_t offset, int whence) {
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  const bool regular = file->node->is_regular();
  const auto size = static_cast<std::int64_t>(regular ? file->node->content.size() : INT64_MAX);
  std::int64_t base = 0;
  switch (whence) {
    case SEEK_SET: break;
    case SEEK_CUR: base = static_cast<std::int64_t>(file->cursor); break;
    case SEEK_END: base = size; break;
    case SEEK_DATA:
    case SEEK_HOLE:
      if (offset < 0 || offset >= size) return -ENXIO;
      offset = static_cast<std::int64_t>(
          file->node->content.now().next(static_cast<std::uint64_t>(offset), whence == SEEK_DATA));
      if (whence == SEEK_DATA && offset >= size) return -ENXIO;
      break;
    default: return -EINVAL;
  }
  std::int64_t reached = 0;
  if (__builtin_add_overflow(base, offset, &reached) || reached < 0) return -EINVAL;
  if (regular && static_cast<std::uint64_t>(reached) > size_max()) return -EINVAL;
  file->cursor = static_cast<std::uint64_t>(reached);
  return reached;
}

int SimFiles::sync(int fd) {
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  if (file->node->is_directory()) {
    journal_.sync(*file->node);
  } else {
    file->node->content.sync();
  }
  return 0;
}

int SimFiles::allocate(int fd, int mode, std::int64_t offset, std::int64_t length) {
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  if (offset < 0 || length <= 0) return -EINVAL;
  const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int action = mode & ~FALLOC_FL_KEEP_SIZE;
  if (action != 0 && action != FALLOC_FL_ZERO_RANGE && action != FALLOC_FL_PUNCH_HOLE) return -EOPNOTSUPP;
  if (action == FALLOC_FL_PUNCH_HOLE && !keeps_size) return -EOPNOTSUPP;
  if (!file->writable()) return -EBADF;
  if (!file->node->is_regular()) return -ENODEV;
  const auto start = static_cast<std::uint64_t>(offset);
  const auto count = static_cast<std::uint64_t>(length);
  if (start + count > size_max()) return -EFBIG;
  SimContent& content = file->node->content;
  if (action != 0) content.punch(start, count);
  const bool room = action == FALLOC_FL_PUNCH_HOLE || content.allocate(start, count, !keeps_size);
  if (!room) return -ENOSPC;
  file->node->modified = file->node->changed = time();
  return 0;
}

int SimFiles::truncate(int fd, std::int64_t length) {
  if (length < 0) return -EINVAL;
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  if (!file->node->is_regular() || !file->writable()) return -EINVAL;
  if (static_cast<std::uint64_t>(length) > size_max()) return -EFBIG;
  file->node->content.resize(static_cast<std::uint64_t>(length));
  file->node->modified = file->node->changed = time();
  return 0;
}

int SimFiles::advise(int fd, std::int64_t, std::int64_t length, int advice) {
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  return length < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE ? -EINVAL : 0;
}

// --- Copying ---------------------------------------------------------------------------------------------------------

std::int64_t SimFiles::copy_range(int fd, std::int64_t offset, int other_fd, std::int64_t other_offset,
                                  std::int64_t length) {
  SimDescription* in = nullptr;
  SimDescription* out = nullptr;
  if (const int error = check(fd, in); error != 0) return error;
  if (const int error = check(other_fd, out); error != 0) return error;
  if (const int error = regular(fd, in); error != 0) return out->node->is_directory() ? -EISDIR : error;
  if (const int error = regular(other_fd, out); error != 0) return error;
  if (!in->readable() || !out->writable() || (out->flags & O_APPEND) != 0) return -EBADF;
  if (wraps(offset, length) || wraps(other_offset, length)) return -EOVERFLOW;
  if (offset < kAtCursor || other_offset < kAtCursor || length < 0) return -EINVAL;
  const std::uint64_t from = offset == kAtCursor ? in->cursor : static_cast<std::uint64_t>(offset);
  const std::uint64_t to = other_offset == kAtCursor ? out->cursor : static_cast<std::uint64_t>(other_offset);
  const std::uint64_t size = in->node->content.size();
  const auto most = std::min<std::uint64_t>(static_cast<std::uint64_t>(length), kTransferMost);
  const std::uint64_t count = from >= size ? 0 : std::min(most, size - from);
  if (in->node == out->node && to + count > from && to < from + count) return -EINVAL;
  const std::int64_t done = copy(*in->node, from, *out->node, to, count);
  if (done > 0 && offset == kAtCursor) in->cursor += static_cast<std::uint64_t>(done);
  if (done > 0 && other_offset == kAtCursor) out->cursor += static_cast<std::uint64_t>(done);
  return done;
}

std::int64_t SimFiles::send_file(int out, int in, std::int64_t offset, std::int64_t length) {
  SimDescription* from = nullptr;
  SimDescription* to = nullptr;
  if (const int error = check(in, from); error != 0) return error;
  if (const int error = check(out, to); error != 0) return error;
  if (!from->readable() || !to->writable()) return -EBADF;
  if (!from->node->is_regular() || !to->node->is_regular() || (to->flags & O_APPEND) != 0) return -EINVAL;
  if (offset < kAtCursor || length < 0) return -EINVAL;
  const std::uint64_t start = offset == kAtCursor ? from->cursor : static_cast<std::uint64_t>(offset);
  const auto most = std::min<std::uint64_t>(static_cast<std::uint64_t>(length), kTransferMost);
  const std::int64_t done = copy(*from->node, start, *to->node, to->cursor, most);
  if (done > 0 && offset == kAtCursor) from->cursor += static_cast<std::uint64_t>(done);
  if (done > 0) to->cursor += static_cast<std::uint64_t>(done);
  return done;
}

std::int64_t SimFiles::copy(SimInode& from, std::uint64_t from_offset, SimInode& to, std::uint64_t to_offset,
                            std::uint64_t length) {
  std::vector<std::byte> bytes(std::min<std::uint64_t>(length, std::uint64_t{1} << 20U));
  std::uint64_t done = 0;
  while (done < length) {
    const std::size_t part = std::min<std::uint64_t>(bytes.size(), length - done);
    const std::size_t got = from.content.now().read(from_offset + done, std::span(bytes).first(part));
    if (got == 0) break;
    const std::int64_t put = write_at(to, to_offset + done, std::span(bytes).first(got));
    if (put < 0 && done == 0) return put;
    if (put <= 0) break;
    done += static_cast<std::uint64_t>(put);
    if (static_cast<std::size_t>(put) < got) break;
  }
  return static_cast<std::int64_t>(done);
}

}  // namespace bight::detail
