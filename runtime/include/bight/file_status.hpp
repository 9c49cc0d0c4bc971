// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

struct statx;

namespace bight {

enum class FileType : unsigned char {
  unknown,
  regular,
  directory,
  symlink,
  fifo,
  socket,
  character_device,
  block_device,
};

/// Of the system's clock, to the nanosecond.
using FileTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

/// What direct I/O (OpenOptions::direct) asks of a file: addresses of buffers are to be multiples of `memory`, offsets
/// and sizes multiples of `offset`. Zeros: there is no direct I/O on the file.
struct DirectAlignment {
  std::size_t memory = 0;
  std::size_t offset = 0;
};

/// What the system says of a file: statx(2).
struct FileStatus {
  FileType type = FileType::unknown;
  unsigned mode = 0;  ///< permissions, with the set-ID and sticky bits: 07777 at most
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint64_t size = 0;       ///< bytes
  std::uint64_t allocated = 0;  ///< bytes that it takes on the device; less than size where it has holes
  std::uint64_t links = 0;      ///< names that it has
  std::uint64_t device = 0;     ///< with inode, what tells it from all other files that there are now
  std::uint64_t inode = 0;
  FileTime accessed{};
  FileTime modified{};  ///< its content
  FileTime changed{};   ///< its content or what is said here
  FileTime created{};   ///< the epoch where the file system does not know

  [[nodiscard]] bool is_regular() const noexcept { return type == FileType::regular; }
  [[nodiscard]] bool is_directory() const noexcept { return type == FileType::directory; }
  [[nodiscard]] bool is_symlink() const noexcept { return type == FileType::symlink; }
  [[nodiscard]] bool same_file(const FileStatus& other) const noexcept {
    return device == other.device && inode == other.inode;
  }
};

namespace detail {
[[nodiscard]] FileType file_type_of(unsigned mode) noexcept;
[[nodiscard]] FileStatus to_file_status(const struct ::statx& from) noexcept;
}  // namespace detail
}  // namespace bight
