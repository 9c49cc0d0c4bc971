// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_paths.hpp"

#include <fcntl.h>
#include <linux/limits.h>
#include <linux/openat2.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

namespace bight::detail {
namespace {

constexpr unsigned kLinksMost = 40;

bool follows(SimWalk::End end) noexcept { return end == SimWalk::End::follow || end == SimWalk::End::create; }
bool creates(SimWalk::End end) noexcept { return end == SimWalk::End::create || end == SimWalk::End::create_here; }

/// One of the links under /proc by which a file without a name can be given one.
constexpr std::string_view kByDescriptor = "/proc/self/fd/";

}  // namespace

/// On its way along one path.
class SimPaths::Walker {
 public:
  Walker(SimInode& root, SimInode& start, SimWalk how) noexcept : root_(&root), at_(&start), how_(how) {
    if ((how.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0) root_ = &start;
  }

  int walk(std::string path, SimPlace& place) {
    pending_ = std::move(path);
    if (const int error = begin(); error != 0) return error;
    place.last = SimPlace::Last::root;
    place.node = at_;
    for (;;) {
      const std::size_t start = pending_.find_first_not_of('/');
      if (start == std::string::npos) return 0;
      const std::size_t end = std::min(pending_.find('/', start), pending_.size());
      const std::string name = pending_.substr(start, end - start);
      pending_.erase(0, end);
      if (!at_->is_directory()) return -ENOTDIR;
      const bool last = pending_.find_first_not_of('/') == std::string::npos;
      bool over = last;
      if (const int error = last ? finish(name, place, over) : step(name); error != 0) return error;
      if (over) return 0;
    }
  }

 private:
  [[nodiscard]] bool beneath() const noexcept { return (how_.resolve & RESOLVE_BENEATH) != 0; }

  /// Where what is pending starts from.
  int begin() noexcept {
    if (pending_.front() != '/') return 0;
    if (beneath()) return -EXDEV;
    at_ = root_;
    return 0;
  }

  int look_up(const std::string& name, SimInode*& found) const noexcept {
    if (name == ".") {
      found = at_;
    } else if (name == "..") {
      if (at_ == root_ && beneath()) return -EXDEV;
      found = at_ == root_ ? at_ : at_->parent;
    } else {
      if (at_->removed) return -ENOENT;
      if (name.size() > NAME_MAX) return -ENAMETOOLONG;
      found = at_->names.find(name);
    }
    return 0;
  }

  int follow(const SimInode& link) {
    if ((how_.resolve & RESOLVE_NO_SYMLINKS) != 0 || ++links_ > kLinksMost) return -ELOOP;
    pending_.insert(0, link.target);
    return begin();
  }

  int step(const std::string& name) {
    SimInode* found = nullptr;
    if (const int error = look_up(name, found); error != 0) return error;
    if (found == nullptr) return -ENOENT;
    if (found->is_symlink()) return follow(*found);
    at_ = found;
    return 0;
  }

  int finish(const std::string& name, SimPlace& place, bool& over) {
    place.slash = !pending_.empty();
    place.last = name == "." ? SimPlace::Last::dot : name == ".." ? SimPlace::Last::dot_dot : SimPlace::Last::name;
    place.directory = at_;
    place.name = name;
    place.node = nullptr;
    const bool looks = how_.end == SimWalk::End::look_up;
    if (place.slash && place.last == SimPlace::Last::name && creates(how_.end)) return -EISDIR;
    if (const int error = look_up(name, place.node); error != 0) {
      if (looks) place.error = error;  // whoever has more to check does that first
      return looks ? 0 : error;
    }
    const bool link = place.node != nullptr && place.node->is_symlink();
    if (link && (follows(how_.end) || (place.slash && !looks))) {
      over = false;
      if (const int error = follow(*place.node); error != 0) return error;
      place.last = SimPlace::Last::root;
      place.node = at_;
      return 0;
    }
    return place.slash && !looks && place.node != nullptr && !place.node->is_directory() ? -ENOTDIR : 0;
  }

  SimInode* root_;
  SimInode* at_;
  SimWalk how_;
  std::string pending_;
  unsigned links_ = 0;
};

int SimPaths::walk(int fd, const char* path, SimWalk how, SimPlace& place) const {
  const std::size_t length = std::strlen(path);
  if (length == 0) return -ENOENT;
  if (length >= PATH_MAX) return -ENAMETOOLONG;
  const std::string_view text(path, length);
  if (text.substr(0, kByDescriptor.size()) == kByDescriptor && follows(how.end)) return by_descriptor(text, place);
  SimInode* start = root_;
  const bool scoped = (how.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0;
  if (path[0] != '/' || scoped) {
    if (const int error = start_of(fd, start); error != 0) return error;
  }
  return Walker(*root_, *start, how).walk(std::string(text), place);
}

int SimPaths::find(int fd, const char* path, int flags, SimInode*& node) const {
  if (path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0) return start_of(fd, node);
  SimPlace place;
  SimWalk how;
  if ((flags & AT_SYMLINK_NOFOLLOW) != 0) how.end = SimWalk::End::keep;
  if (const int error = walk(fd, path, how, place); error != 0) return error;
  node = place.node;
  return node != nullptr ? 0 : -ENOENT;
}

int SimPaths::start_of(int fd, SimInode*& start) const noexcept {
  if (fd == AT_FDCWD) {
    start = current_;
    return 0;
  }
  const SimDescription* file = descriptors_.find_file(fd);
  if (file == nullptr) return -EBADF;
  start = file->node;
  return 0;
}

int SimPaths::by_descriptor(std::string_view path, SimPlace& place) const {
  path.remove_prefix(kByDescriptor.size());
  int fd = -1;
  const auto parsed = std::from_chars(path.data(), path.data() + path.size(), fd);
  const SimDescription* file = descriptors_.find_file(fd);
  if (parsed.ec != std::errc{} || parsed.ptr != path.data() + path.size() || file == nullptr) return -ENOENT;
  place.last = SimPlace::Last::root;
  place.node = file->node;
  return 0;
}

}  // namespace bight::detail
