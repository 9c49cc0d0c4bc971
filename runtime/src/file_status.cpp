// SPDX-License-Identifier: Apache-2.0
#include <bight/file_status.hpp>

#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace bight::detail {
namespace {

FileTime to_time(const ::statx_timestamp& from) noexcept {
  return FileTime(std::chrono::seconds(from.tv_sec) + std::chrono::nanoseconds(from.tv_nsec));
}

}  // namespace

FileType file_type_of(unsigned mode) noexcept {
  switch (mode & S_IFMT) {
    case S_IFREG: return FileType::regular;
    case S_IFDIR: return FileType::directory;
    case S_IFLNK: return FileType::symlink;
    case S_IFIFO: return FileType::fifo;
    case S_IFSOCK: return FileType::socket;
    case S_IFCHR: return FileType::character_device;
    case S_IFBLK: return FileType::block_device;
    default: return FileType::unknown;
  }
}

FileStatus to_file_status(const struct ::statx& from) noexcept {
  FileStatus status;
  status.type = file_type_of(from.stx_mode);
  status.mode = from.stx_mode & 07777U;
  status.owner = from.stx_uid;
  status.group = from.stx_gid;
  status.size = from.stx_size;
  status.allocated = from.stx_blocks * 512;
  status.links = from.stx_nlink;
  status.device = gnu_dev_makedev(from.stx_dev_major, from.stx_dev_minor);
  status.inode = from.stx_ino;
  status.accessed = to_time(from.stx_atime);
  status.modified = to_time(from.stx_mtime);
  status.changed = to_time(from.stx_ctime);
  if ((from.stx_mask & STATX_BTIME) != 0) status.created = to_time(from.stx_btime);
  return status;
}

}  // namespace bight::detail
