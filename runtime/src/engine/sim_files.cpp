// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_files.hpp"

#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

namespace bight::detail {
namespace {

#ifdef STATX_DIOALIGN
constexpr unsigned kSector = 512;
#endif
constexpr std::uint64_t kDevice = 0x801;
constexpr std::int64_t kSecond = 1'000'000'000;

::statx_timestamp stamp(SimFileTime time) noexcept {
  ::statx_timestamp result{};
  std::int64_t rest = time % kSecond;
  if (rest < 0) rest += kSecond;
  result.tv_sec = (time - rest) / kSecond;
  result.tv_nsec = static_cast<unsigned>(rest);
  return result;
}

bool valid(const ::timespec& time) noexcept {
  return time.tv_nsec == UTIME_NOW || time.tv_nsec == UTIME_OMIT || (time.tv_nsec >= 0 && time.tv_nsec < kSecond);
}

void set(SimFileTime& time, const ::timespec& to, SimFileTime now) noexcept {
  if (to.tv_nsec == UTIME_OMIT) return;
  time = to.tv_nsec == UTIME_NOW ? now : to.tv_sec * kSecond + to.tv_nsec;
}

}  // namespace

SimFiles::SimFiles(SimCore& core, SimDescriptors& descriptors)
    : core_(core),
      descriptors_(descriptors),
      inodes_(core.options().seed),
      paths_(inodes_.make(S_IFDIR | 0755, space_), descriptors) {
  space_.capacity = core.options().disk_size;
  SimInode& root = paths_.root();
  root.parent = &root;
  root.links = 2;
  root.born = root.changed = root.modified = root.accessed = time();
  make_dir(AT_FDCWD, "/tmp", 0777);
  set_mode(AT_FDCWD, "/tmp", 01777);
  journal_.sync(root);
}

int SimFiles::check(int fd, SimDescription*& file) const noexcept {
  file = descriptors_.find_file(fd);
  if (file != nullptr) return file->only_path() ? -EBADF : 0;
  return descriptors_.find(fd) != nullptr ? -EINVAL : -EBADF;
}

// --- What is known of a file -----------------------------------------------------------------------------------------

int SimFiles::stat(int fd, const char* path, int flags, struct ::statx& status) {
  constexpr int kKnown = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
  if ((flags & ~kKnown) != 0) return -EINVAL;
  SimInode* node = nullptr;
  if (const int error = paths_.find(fd, path, flags, node); error != 0) return error;
  status = {};
  status.stx_mask = STATX_BASIC_STATS | STATX_BTIME;
  status.stx_blksize = SimBlocks::kPage;
  status.stx_nlink = node->links;
  status.stx_uid = node->owner;
  status.stx_gid = node->group;
  status.stx_mode = static_cast<std::uint16_t>(node->mode);
  status.stx_ino = node->number;
  status.stx_size = node->is_directory() ? SimBlocks::kPage
                    : node->is_symlink() ? node->target.size()
                                         : node->content.size();
  status.stx_blocks = (node->is_directory() ? SimBlocks::kPage : node->content.now().space()) / 512;
  status.stx_atime = stamp(node->accessed);
  status.stx_btime = stamp(node->born);
  status.stx_ctime = stamp(node->changed);
  status.stx_mtime = stamp(node->modified);
#ifdef STATX_DIOALIGN
  if (node->is_regular()) {
    status.stx_mask |= STATX_DIOALIGN;
    status.stx_dio_mem_align = status.stx_dio_offset_align = kSector;
  }
#endif
  status.stx_dev_major = kDevice >> 8U;
  status.stx_dev_minor = kDevice & 0xffU;
  return 0;
}

int SimFiles::set_mode(int fd, const char* path, ::mode_t mode) {
  SimInode* node = nullptr;
  if (path[0] == '\0') {
    SimDescription* file = nullptr;
    if (const int error = check(fd, file); error != 0) return error;
    node = file->node;
  } else if (const int error = paths_.find(fd, path, 0, node); error != 0) {
    return error;
  }
  node->mode = (node->mode & S_IFMT) | (mode & 07777);
  node->changed = time();
  return 0;
}

int SimFiles::set_owner(int fd, const char* path, unsigned owner, unsigned group, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  SimInode* node = nullptr;
  if (const int error = paths_.find(fd, path, flags, node); error != 0) return error;
  if (owner != ~0U) node->owner = owner;
  if (group != ~0U) node->group = group;
  if (!node->is_directory()) node->mode &= ~static_cast<::mode_t>(S_ISUID);
  node->changed = time();
  return 0;
}

int SimFiles::set_times(int fd, const char* path, const ::timespec* times, int flags) {
  if (times != nullptr && (!valid(times[0]) || !valid(times[1]))) return -EINVAL;
  if (times != nullptr && times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT) return 0;
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  SimInode* node = nullptr;
  if (path[0] == '\0' && (flags & AT_EMPTY_PATH) == 0) {
    SimDescription* file = nullptr;
    if (const int error = check(fd, file); error != 0) return error;
    node = file->node;
  } else if (const int error = paths_.find(fd, path, flags, node); error != 0) {
    return error;
  }
  constexpr ::timespec kNow{0, UTIME_NOW};
  set(node->accessed, times != nullptr ? times[0] : kNow, time());
  set(node->modified, times != nullptr ? times[1] : kNow, time());
  node->changed = time();
  return 0;
}

int SimFiles::change_dir(const char* path) {
  SimInode* node = nullptr;
  if (const int error = paths_.find(AT_FDCWD, path, 0, node); error != 0) return error;
  if (!node->is_directory()) return -ENOTDIR;
  paths_.set_current(*node);
  return 0;
}

// --- The disk --------------------------------------------------------------------------------------------------------

void SimFiles::crash(SimRandom& random, double names_kept, const SimSurvival& survival) {
  std::vector<int> open;
  descriptors_.for_each_file([&](int fd, const SimDescription&) { open.push_back(fd); });
  for (const int fd : open) {
    release(*descriptors_.find_file(fd));
    descriptors_.close(fd);
  }
  journal_.crash(random, names_kept);
  paths_.set_current(paths_.root());
  restore(random, survival);
  sweep();
}

/// What everybody sees is what the disk has, from the root down, in the order of the names: so that it depends on
/// nothing but the seed.
void SimFiles::restore(SimRandom& random, const SimSurvival& survival) {
  SimInode& root = paths_.root();
  std::set<const SimInode*> seen{&root};
  std::vector<SimInode*> directories{&root};
  root.links = 2;
  while (!directories.empty()) {
    SimInode& directory = *directories.back();
    directories.pop_back();
    directory.names.clear();
    for (const auto& [name, node] : directory.names_on_disk) {
      directory.names.put(name, *node);
      const bool first = seen.insert(node).second;
      if (first) {
        node->links = node->is_directory() ? 2 : 0;
        node->removed = false;
        node->nameless = false;
        if (node->is_regular()) node->content.crash(random, survival);
      }
      if (node->is_directory()) {
        node->parent = &directory;
        ++directory.links;
        if (first) directories.push_back(node);
      } else {
        ++node->links;
      }
    }
  }
}

void SimFiles::fail_sync(int fd, SimRandom& random, const SimSurvival& survival) {
  if (const SimDescription* file = descriptors_.find_file(fd)) file->node->content.fail_sync(random, survival);
}

int SimFiles::put(std::string_view path, std::span<const std::byte> bytes) {
  const std::string whole(path);
  for (std::size_t slash = whole.find('/', 1); slash != std::string::npos; slash = whole.find('/', slash + 1)) {
    const int error = make_dir(AT_FDCWD, whole.substr(0, slash).c_str(), 0755);
    if (error == 0) journal_.sync_last();
    if (error != 0 && error != -EEXIST) return error;
  }
  SimInode* before = nullptr;
  const bool there = find(path, before) == 0;
  const int fd = open(AT_FDCWD, whole.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644, 0);
  if (fd < 0) return fd;
  if (!there) journal_.sync_last();
  const ::iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};  // NOLINT: only read
  const std::int64_t written = write(fd, {&piece, 1}, kAtCursor, 0);
  sync(fd);
  close(fd);
  if (written < 0) return static_cast<int>(written);
  return static_cast<std::size_t>(written) == bytes.size() ? 0 : -ENOSPC;
}

int SimFiles::find(std::string_view path, SimInode*& node) const {
  return paths_.find(AT_FDCWD, std::string(path).c_str(), 0, node);
}

// --- What lives how long ---------------------------------------------------------------------------------------------

SimInode& SimFiles::make(::mode_t mode) {
  if (inodes_.worth_sweeping()) sweep();
  SimInode& node = inodes_.make(mode, space_);
  node.born = node.changed = node.modified = node.accessed = time();
  return node;
}

/// Only at the beginning of a call: in its middle it may hold what nothing refers to yet.
void SimFiles::sweep() {
  std::vector<SimInode*> roots{&paths_.root(), &paths_.current()};
  descriptors_.for_each_file([&](int, const SimDescription& file) { roots.push_back(file.node); });
  journal_.collect(roots);
  inodes_.sweep(std::move(roots));
}

void SimFiles::drop_if_unused(SimInode& node) noexcept {
  if (node.links == 0 && node.opens == 0) node.content.give_back();
}

}  // namespace bight::detail
