// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "engine/sim_files.hpp"

namespace bight::detail {
namespace {

constexpr ::mode_t kMask = 022;
constexpr std::size_t kTargetMost = 4095;

/// Whether `node` is `directory` or somewhere above it.
bool above(const SimInode* node, const SimInode* directory) noexcept {
  while (directory != node && directory->parent != directory) directory = directory->parent;
  return directory == node;
}

unsigned char type_of(const SimInode& node) noexcept {
  return static_cast<unsigned char>((node.mode & S_IFMT) >> 12U);  // IFTODT
}

}  // namespace

// --- Making ----------------------------------------------------------------------------------------------------------

int SimFiles::place_for_new(int fd, const char* path, bool directory, SimPlace& place) const {
  if (const int error = paths_.walk(fd, path, {SimWalk::End::look_up}, place); error != 0) return error;
  if (place.last != SimPlace::Last::name) return -EEXIST;
  if (place.error != 0) return place.error;
  if (place.node != nullptr) return -EEXIST;
  if (place.slash && !directory) return -ENOENT;
  return place.directory->removed ? -ENOENT : 0;
}

int SimFiles::make_dir(int fd, const char* path, ::mode_t mode) {
  SimPlace place;
  if (const int error = place_for_new(fd, path, true, place); error != 0) return error;
  SimInode& node = make(S_IFDIR | (mode & 01777 & ~kMask));
  node.links = 1;
  inherit_group(*place.directory, node);
  put_name(*place.directory, place.name, node);
  SimNameChange change{{{place.directory, place.name, &node}}, {&node}};
  change.made = &node;
  record(std::move(change));
  return 0;
}

int SimFiles::symlink(const char* target, int fd, const char* path) {
  if (target[0] == '\0') return -ENOENT;
  if (std::strlen(target) > kTargetMost) return -ENAMETOOLONG;
  SimPlace place;
  if (const int error = place_for_new(fd, path, false, place); error != 0) return error;
  SimInode& node = make(S_IFLNK | 0777);
  node.target = target;
  inherit_group(*place.directory, node);
  put_name(*place.directory, place.name, node);
  record({{{place.directory, place.name, &node}}, {&node}});
  return 0;
}

int SimFiles::link(int fd, const char* path, int other_fd, const char* other_path, int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  SimInode* node = nullptr;
  const int follow = (flags & AT_SYMLINK_FOLLOW) != 0 ? 0 : AT_SYMLINK_NOFOLLOW;
  if (const int error = paths_.find(fd, path, follow | (flags & AT_EMPTY_PATH), node); error != 0) return error;
  SimPlace place;
  if (const int error = place_for_new(other_fd, other_path, false, place); error != 0) return error;
  if (node->is_directory()) return -EPERM;
  if (node->links == 0 && !(node->nameless && node->linkable)) return -ENOENT;
  node->nameless = false;
  put_name(*place.directory, place.name, *node);
  node->changed = time();
  record({{{place.directory, place.name, node}}, {node}});
  return 0;
}

// --- Removing --------------------------------------------------------------------------------------------------------

int SimFiles::unlink(int fd, const char* path, int flags) {
  if ((flags & ~AT_REMOVEDIR) != 0) return -EINVAL;
  const bool directory = (flags & AT_REMOVEDIR) != 0;
  SimPlace place;
  if (const int error = paths_.walk(fd, path, {SimWalk::End::look_up}, place); error != 0) return error;
  if (place.last != SimPlace::Last::name) {
    if (!directory) return -EISDIR;
    return place.last == SimPlace::Last::dot ? -EINVAL : place.last == SimPlace::Last::dot_dot ? -ENOTEMPTY : -EBUSY;
  }
  if (place.error != 0) return place.error;
  if (place.node == nullptr) return -ENOENT;
  SimInode& node = *place.node;
  if (directory != node.is_directory()) return directory ? -ENOTDIR : -EISDIR;
  if (directory && !node.names.empty()) return -ENOTEMPTY;
  if (!directory && place.slash) return -ENOTDIR;
  SimNameChange change{{{place.directory, place.name, nullptr}}, {&node}};
  if (directory) change.removed = &node;
  remove_name(*place.directory, place.name, node);
  record(std::move(change));
  return 0;
}

// --- Renaming --------------------------------------------------------------------------------------------------------

int SimFiles::rename(int fd, const char* path, int other_fd, const char* other_path, unsigned flags) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return -EINVAL;
  if (flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) return -EINVAL;
  SimPlace from;
  SimPlace to;
  if (const int error = paths_.walk(fd, path, {SimWalk::End::look_up}, from); error != 0) return error;
  if (const int error = paths_.walk(other_fd, other_path, {SimWalk::End::look_up}, to); error != 0) return error;
  if (const int error = check_rename(from, to, flags); error != 0) return error;
  if (from.node != to.node) move(from, to, flags);
  return 0;
}

/// In the order in which Linux checks.
int SimFiles::check_rename(const SimPlace& from, const SimPlace& to, unsigned flags) const {
  const bool exchange = flags == RENAME_EXCHANGE;
  if (from.last != SimPlace::Last::name) return -EBUSY;
  if (to.last != SimPlace::Last::name) return flags == RENAME_NOREPLACE ? -EEXIST : -EBUSY;
  if (from.error != 0) return from.error;
  if (from.node == nullptr) return -ENOENT;
  if (to.error != 0) return to.error;
  if (to.node != nullptr && flags == RENAME_NOREPLACE) return -EEXIST;
  if (exchange) {
    if (to.node == nullptr) return -ENOENT;
    if (!to.node->is_directory() && to.slash) return -ENOTDIR;
  }
  if (!from.node->is_directory() && (from.slash || (!exchange && to.slash))) return -ENOTDIR;
  const bool apart = from.directory != to.directory;
  if (apart && above(from.node, to.directory)) return -EINVAL;
  if (apart && to.node != nullptr && above(to.node, from.directory)) return exchange ? -EINVAL : -ENOTEMPTY;
  if (to.node == from.node) return 0;
  if (to.node == nullptr) return to.directory->removed ? -ENOENT : 0;
  if (exchange) return 0;
  if (from.node->is_directory() != to.node->is_directory()) return from.node->is_directory() ? -ENOTDIR : -EISDIR;
  return to.node->is_directory() && !to.node->names.empty() ? -ENOTEMPTY : 0;
}

void SimFiles::move(const SimPlace& from, const SimPlace& to, unsigned flags) {
  SimInode& moved = *from.node;
  SimInode* replaced = to.node;
  const bool exchange = flags == RENAME_EXCHANGE;
  SimNameChange change{{{from.directory, from.name, exchange ? replaced : nullptr}, {to.directory, to.name, &moved}},
                       {&moved}};
  change.moves_directory = moved.is_directory() || (exchange && replaced->is_directory());
  if (replaced != nullptr) {
    change.files.push_back(replaced);
    if (replaced->is_directory() && !exchange) change.removed = replaced;
    remove_name(*to.directory, to.name, *replaced);
  }
  remove_name(*from.directory, from.name, moved);
  put_name(*to.directory, to.name, moved);
  if (exchange) put_name(*from.directory, from.name, *replaced);
  moved.changed = time();
  record(std::move(change));
}

// --- Names -----------------------------------------------------------------------------------------------------------

void SimFiles::put_name(SimInode& directory, const std::string& name, SimInode& node) {
  directory.names.put(name, node);
  directory.modified = directory.changed = time();
  ++node.links;
  if (!node.is_directory()) return;
  node.parent = &directory;
  node.removed = false;
  ++directory.links;
}

/// What a directory with the set-group-ID bit is for.
void SimFiles::inherit_group(const SimInode& directory, SimInode& node) noexcept {
  if ((directory.mode & S_ISGID) == 0) return;
  node.group = directory.group;
  if (node.is_directory()) node.mode |= static_cast<::mode_t>(S_ISGID);
}

void SimFiles::remove_name(SimInode& directory, const std::string& name, SimInode& node) {
  directory.names.remove(name);
  directory.modified = directory.changed = node.changed = time();
  --node.links;
  if (node.is_directory()) {
    --directory.links;
    node.removed = true;
  }
}

void SimFiles::record(SimNameChange change) {
  std::vector<SimInode*> files = change.files;
  journal_.record(std::move(change));
  for (SimInode* file : files) {
    if (file->removed) file->links = 0;
    drop_if_unused(*file);
  }
}

// --- Reading ---------------------------------------------------------------------------------------------------------

int SimFiles::read_link(int fd, const char* path, char* into, std::size_t size) {
  if (size == 0) return -EINVAL;
  SimInode* node = nullptr;
  if (const int error = paths_.find(fd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, node); error != 0) return error;
  if (!node->is_symlink()) return path[0] == '\0' ? -ENOENT : -EINVAL;
  const std::size_t count = std::min(size, node->target.size());
  std::memcpy(into, node->target.data(), count);
  return static_cast<int>(count);
}

/// The cursor is the place of the next entry.
int SimFiles::read_dir(int fd, std::byte* into, std::size_t size) {
  SimDescription* file = nullptr;
  if (const int error = check(fd, file); error != 0) return error;
  const SimInode& directory = *file->node;
  if (!directory.is_directory()) return -ENOTDIR;
  if (directory.removed) return -ENOENT;
  std::size_t done = 0;
  for (;;) {
    SimDirectory::Entry entry{".", file->node, 0};
    if (file->cursor == 1) entry = {"..", directory.parent, 1};
    if (file->cursor >= SimDirectory::kFirstPlace) entry = directory.names.next(file->cursor);
    if (entry.node == nullptr) return static_cast<int>(done);
    constexpr std::size_t kHead = offsetof(::dirent64, d_name);
    const std::size_t needed = (kHead + entry.name.size() + 1 + 7) / 8 * 8;
    if (done + needed > size) return done != 0 ? static_cast<int>(done) : -EINVAL;
    std::memset(into + done, 0, needed);
    const std::uint64_t number = entry.node->number;
    const auto next = static_cast<std::int64_t>(entry.place + 1);
    const auto length = static_cast<std::uint16_t>(needed);
    const unsigned char type = type_of(*entry.node);
    std::memcpy(into + done + offsetof(::dirent64, d_ino), &number, sizeof number);
    std::memcpy(into + done + offsetof(::dirent64, d_off), &next, sizeof next);
    std::memcpy(into + done + offsetof(::dirent64, d_reclen), &length, sizeof length);
    std::memcpy(into + done + offsetof(::dirent64, d_type), &type, sizeof type);
    std::memcpy(into + done + kHead, entry.name.data(), entry.name.size());
    done += needed;
    file->cursor = entry.place + 1;
  }
}

}  // namespace bight::detail
