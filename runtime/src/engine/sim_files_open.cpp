// SPDX-License-Identifier: Apache-2.0
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/sim_files.hpp"

namespace bight::detail {
namespace {

constexpr int kNamelessBit = O_TMPFILE & ~O_DIRECTORY;
constexpr ::mode_t kMask = 022;

bool writes(int flags) noexcept { return (flags & O_ACCMODE) != O_RDONLY; }

SimWalk walk_for(int flags, std::uint64_t resolve) noexcept {
  const bool keeps = (flags & O_NOFOLLOW) != 0 || (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
  if ((flags & O_CREAT) != 0) return {keeps ? SimWalk::End::create_here : SimWalk::End::create, resolve};
  return {keeps ? SimWalk::End::keep : SimWalk::End::follow, resolve};
}

}  // namespace

int SimFiles::open(int fd, const char* path, int flags, ::mode_t mode, std::uint64_t resolve) {
  if ((flags & O_PATH) != 0) flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
  if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY)) return -EINVAL;
  if ((flags & kNamelessBit) != 0 && ((flags & O_DIRECTORY) == 0 || !writes(flags))) return -EINVAL;
  if ((flags & O_ACCMODE) == O_ACCMODE) return -EINVAL;
  if (path[0] == '\0') return -ENOENT;
  if (std::strlen(path) >= PATH_MAX) return -ENAMETOOLONG;
  if (descriptors_.count() >= core_.options().descriptors_max) return -EMFILE;
  if ((flags & kNamelessBit) != 0) return open_nameless(fd, path, flags, mode, resolve);
  SimPlace place;
  if (const int error = paths_.walk(fd, path, walk_for(flags, resolve), place); error != 0) return error;
  if (place.node != nullptr) return open_node(*place.node, flags, false, path);
  if ((flags & O_CREAT) == 0 || place.directory == nullptr || place.directory->removed) return -ENOENT;
  SimInode& node = make(S_IFREG | (mode & 07777 & ~kMask));
  inherit_group(*place.directory, node);
  put_name(*place.directory, place.name, node);
  record({{{place.directory, place.name, &node}}, {&node}});
  return open_node(node, flags, true, path);
}

int SimFiles::open_nameless(int fd, const char* path, int flags, ::mode_t mode, std::uint64_t resolve) {
  SimPlace place;
  if (const int error = paths_.walk(fd, path, walk_for(flags & O_NOFOLLOW, resolve), place); error != 0) return error;
  if (place.node == nullptr) return -ENOENT;
  if (!place.node->is_directory()) return -ENOTDIR;
  if (place.node->removed) return -ENOENT;
  SimInode& node = make(S_IFREG | (mode & 07777 & ~kMask));
  inherit_group(*place.node, node);
  node.nameless = true;
  node.linkable = (flags & O_EXCL) == 0;
  return give_descriptor(node, flags, path);
}

int SimFiles::open_node(SimInode& node, int flags, bool created, const char* path) {
  if ((flags & O_CREAT) != 0 && !created) {
    if ((flags & O_EXCL) != 0) return -EEXIST;
    if (node.is_directory()) return -EISDIR;
  }
  if ((flags & O_DIRECTORY) != 0 && !node.is_directory()) return -ENOTDIR;
  if (node.is_symlink() && (flags & O_PATH) == 0) return -ELOOP;
  const bool truncates = (flags & O_TRUNC) != 0;
  if (node.is_directory() && (flags & O_PATH) == 0 && (writes(flags) || truncates)) return -EISDIR;
  if (truncates && !created && (flags & O_PATH) == 0) {
    node.content.resize(0);
    node.changed = node.modified = time();
  }
  return give_descriptor(node, flags, path);
}

int SimFiles::give_descriptor(SimInode& node, int flags, const char* path) {
  ++node.opens;
  const int fd = descriptors_.open_file(core_.options().descriptors_max, {&node, flags, core_.next_serial(), 0, path});
  auto& peak = core_.counters().descriptors_peak;
  peak = std::max<std::uint64_t>(peak, descriptors_.count());
  return fd;
}

int SimFiles::close(int fd) {
  SimDescription* file = descriptors_.find_file(fd);
  if (file == nullptr) return descriptors_.find(fd) != nullptr ? -EINVAL : -EBADF;
  release(*file);
  descriptors_.close(fd);
  return 0;
}

void SimFiles::release(SimDescription& file) noexcept {
  SimInode& node = *file.node;
  std::erase(node.shared_locks, &file);
  if (node.exclusive_lock == &file) node.exclusive_lock = nullptr;
  --node.opens;
  drop_if_unused(node);
}

int SimFiles::lock(int fd, int operation) {
  const int kind = operation & ~LOCK_NB;
  if (kind != LOCK_SH && kind != LOCK_EX && kind != LOCK_UN) return -EINVAL;
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  SimInode& node = *file->node;
  // As Linux: what it holds is let go of first, also when it does not get the new one.
  const bool has = kind == LOCK_EX
                       ? node.exclusive_lock == file
                       : std::find(node.shared_locks.begin(), node.shared_locks.end(), file) != node.shared_locks.end();
  if (kind != LOCK_UN && has) return 0;
  std::erase(node.shared_locks, file);
  if (node.exclusive_lock == file) node.exclusive_lock = nullptr;
  if (kind == LOCK_UN) return 0;
  if (node.exclusive_lock != nullptr || (kind == LOCK_EX && !node.shared_locks.empty())) return -EWOULDBLOCK;
  if (kind == LOCK_EX) {
    node.exclusive_lock = file;
  } else {
    node.shared_locks.push_back(file);
  }
  return 0;
}

}  // namespace bight::detail
