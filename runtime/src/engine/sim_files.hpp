// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sim_core.hpp"
#include "engine/sim_inode.hpp"
#include "engine/sim_journal.hpp"
#include "engine/sim_paths.hpp"
#include "engine/sim_socket.hpp"

namespace bight::detail {

/// The file system of the simulated kernel: the system calls on files, answered as Linux does for root on ext4, without
/// faults. They never wait. Each returns what the call returns, or -errno; `fd` of those with a path is the directory
/// that a relative one starts from.
///
/// One disk, mounted at /, on which there is /tmp. Knows neither operations nor fibers; SimFileAttempts stands between.
class SimFiles {
 public:
  static constexpr std::int64_t kAtCursor = -1;

  SimFiles(SimCore& core, SimDescriptors& descriptors);

  // Names.

  int open(int fd, const char* path, int flags, ::mode_t mode, std::uint64_t resolve);
  int make_dir(int fd, const char* path, ::mode_t mode);
  int unlink(int fd, const char* path, int flags);
  int rename(int fd, const char* path, int other_fd, const char* other_path, unsigned flags);
  int link(int fd, const char* path, int other_fd, const char* other_path, int flags);
  int symlink(const char* target, int fd, const char* path);
  int read_link(int fd, const char* path, char* into, std::size_t size);
  int read_dir(int fd, std::byte* into, std::size_t size);
  int change_dir(const char* path);

  // What is known of a file.

  int stat(int fd, const char* path, int flags, struct ::statx& status);
  int set_mode(int fd, const char* path, ::mode_t mode);
  int set_owner(int fd, const char* path, unsigned owner, unsigned group, int flags);
  int set_times(int fd, const char* path, const ::timespec* times, int flags);

  // What is in an open file.

  int close(int fd);
  std::int64_t read(int fd, std::span<const ::iovec> pieces, std::int64_t offset, int flags);
  std::int64_t write(int fd, std::span<const ::iovec> pieces, std::int64_t offset, int flags);
  std::int64_t seek(int fd, std::int64_t offset, int whence);
  int sync(int fd);
  /// What a read or write of `pieces` would fail with whatever comes of the disk: 0 or -errno.
  [[nodiscard]] int check_transfer(int fd, std::span<const ::iovec> pieces, std::int64_t offset, bool reads) const;
  int allocate(int fd, int mode, std::int64_t offset, std::int64_t length);
  int truncate(int fd, std::int64_t length);
  int advise(int fd, std::int64_t offset, std::int64_t length, int advice);
  int lock(int fd, int operation);
  std::int64_t copy_range(int fd, std::int64_t offset, int other_fd, std::int64_t other_offset, std::int64_t length);
  std::int64_t send_file(int out, int in, std::int64_t offset, std::int64_t length);

  // The disk.

  [[nodiscard]] SimSpace& space() noexcept { return space_; }
  /// A sync of it that fails: what was unsynced is lost or not, and will not be tried again.
  void fail_sync(int fd, SimRandom& random, const SimSurvival& survival);
  /// The power fails, and comes back. No descriptor of a file is open any more.
  void crash(SimRandom& random, double names_kept, const SimSurvival& survival);
  /// Puts a file with its missing directories on the disk, for good.
  int put(std::string_view path, std::span<const std::byte> bytes);
  [[nodiscard]] int find(std::string_view path, SimInode*& node) const;

 private:
  // sim_files_open.cpp
  int open_nameless(int fd, const char* path, int flags, ::mode_t mode, std::uint64_t resolve);
  int open_node(SimInode& node, int flags, bool created, const char* path);
  int give_descriptor(SimInode& node, int flags, const char* path);
  void release(SimDescription& file) noexcept;

  // sim_files_names.cpp
  int place_for_new(int fd, const char* path, bool directory, SimPlace& place) const;
  int check_rename(const SimPlace& from, const SimPlace& to, unsigned flags) const;
  void move(const SimPlace& from, const SimPlace& to, unsigned flags);
  void put_name(SimInode& directory, const std::string& name, SimInode& node);
  static void inherit_group(const SimInode& directory, SimInode& node) noexcept;
  void remove_name(SimInode& directory, const std::string& name, SimInode& node);
  void record(SimNameChange change);

  // sim_files_data.cpp
  int regular(int fd, SimDescription*& file) const;
  std::int64_t write_at(SimInode& node, std::uint64_t offset, std::span<const std::byte> data);
  std::int64_t copy(SimInode& from, std::uint64_t from_offset, SimInode& to, std::uint64_t to_offset,
                    std::uint64_t length);

  SimInode& make(::mode_t mode);
  void sweep();
  void drop_if_unused(SimInode& node) noexcept;
  void restore(SimRandom& random, const SimSurvival& survival);
  [[nodiscard]] SimFileTime time() const noexcept { return core_.now().time_since_epoch().count(); }
  [[nodiscard]] std::uint64_t size_max() const noexcept { return core_.options().file_size_max; }
  /// 0 or -errno, of a descriptor that has to be an open file's.
  int check(int fd, SimDescription*& file) const noexcept;

  SimCore& core_;
  SimDescriptors& descriptors_;
  SimSpace space_;
  SimInodes inodes_;
  SimJournal journal_;
  SimPaths paths_;
};

}  // namespace bight::detail
