// SPDX-License-Identifier: Apache-2.0
#include <bight/directory.hpp>

#include <dirent.h>
#include <fcntl.h>

#include <array>
#include <cstring>
#include <new>
#include <utility>

#include <bight/file.hpp>
#include <bight/filesystem.hpp>

#include "path_call.hpp"

namespace bight::fs {
namespace {

using detail::FileAccess;
using detail::FileOp;
using detail::FileUse;
using detail::FileVerb;
using detail::or_throw;

FileType type_of(unsigned char told) noexcept { return detail::file_type_of(DTTOIF(told)); }

/// Reads what is in an open directory, batch by batch.
class Listing {
 public:
  explicit Listing(File directory) : directory_(std::move(directory)), batch_(kBatch) {}

  struct Item {
    const char* name;  // good until the next call
    FileType type;
  };

  /// Null at the end, or with an error.
  const Item* next(std::error_code& error) {
    error.clear();
    for (;;) {
      if (at_ == filled_) fill(error);
      if (at_ == filled_) return nullptr;
      const std::byte* entry = batch_.data() + at_;
      unsigned short length = 0;
      std::memcpy(&length, entry + offsetof(::dirent64, d_reclen), sizeof length);
      at_ += length;
      item_.name = reinterpret_cast<const char*>(entry + offsetof(::dirent64, d_name));
      item_.type = type_of(std::to_integer<unsigned char>(entry[offsetof(::dirent64, d_type)]));
      if (std::strcmp(item_.name, ".") != 0 && std::strcmp(item_.name, "..") != 0) return &item_;
    }
  }
  [[nodiscard]] File& directory() noexcept { return directory_; }
  /// From the beginning.
  void rewind(std::error_code& error) {
    at_ = filled_ = 0;
    directory_.seek(0, SeekFrom::start, error);
  }

 private:
  static constexpr std::size_t kBatch = std::size_t{32} * 1024;

  void fill(std::error_code& error) {
    at_ = filled_ = 0;
    const FileUse use(FileAccess::state(directory_), error);
    if (!use) return;
    FileOp op(FileVerb::read_dir, use->fd);
    op.data = batch_.data();
    op.size = batch_.size();
    filled_ = detail::settle(op, error);
  }

  File directory_;
  std::vector<std::byte> batch_;
  std::size_t at_ = 0;
  std::size_t filled_ = 0;
  Item item_{};
};

/// Unlinks `name` in an open directory.
void unlink_in(File& directory, const char* name, unsigned flags, std::error_code& error) {
  const FileUse use(FileAccess::state(directory), error);
  if (!use) return;
  FileOp op(FileVerb::unlink, use->fd);
  op.path = name;
  op.flags = flags;
  detail::settle(op, error);
}

FileStatus status_in(File& directory, const char* name, bool follow, std::error_code& error) {
  const FileUse use(FileAccess::state(directory), error);
  if (!use) return {};
  struct ::statx status {};
  FileOp op(FileVerb::stat, use->fd);
  op.path = name;
  op.flags = follow ? 0 : AT_SYMLINK_NOFOLLOW;
  op.mode = STATX_TYPE | STATX_INO;
  op.status = &status;
  detail::settle(op, error);
  return error ? FileStatus{} : detail::to_file_status(status);
}

bool vanished(std::error_code error) noexcept { return error == std::errc::no_such_file_or_directory; }

}  // namespace

// --- Lists
// ------------------------------------------------------------------------------------------------------------

std::vector<DirectoryEntry> list_directory(const std::string& path, std::error_code& error) {
  std::vector<DirectoryEntry> entries;
  File directory = File::open(path, {.directory = true}, error);
  if (error) return entries;
  Listing listing(std::move(directory));
  while (const Listing::Item* item = listing.next(error)) {
    entries.push_back({item->name, item->type});
    DirectoryEntry& last = entries.back();
    if (last.type != FileType::unknown) continue;  // which some file systems do not tell with the name
    last.type = status_in(listing.directory(), item->name, false, error).type;
    if (vanished(error)) error.clear();
    if (error) break;
  }
  if (error) entries.clear();
  return entries;
}

std::vector<DirectoryEntry> list_directory(const std::string& path) {
  return or_throw([&] { return "list the directory " + path; },
                  [&](std::error_code& error) { return list_directory(path, error); });
}

// --- Removal
// ----------------------------------------------------------------------------------------------------------

namespace {

/// A directory on its way out. Everything is named relative to open directories, so that a directory that somebody
/// replaces by a link can not lead out of the tree.
struct Doomed {
  Doomed(File directory, std::string its_name) : listing(std::move(directory)), name(std::move(its_name)) {}
  Listing listing;
  std::string name;
  bool any = false;  // removed in this pass
};

/// Goes through one directory until it meets one in it, which it opens and returns; empty when there is no more.
File remove_files(Doomed& in, std::string& name, std::uint64_t& count, std::error_code& error) {
  while (const Listing::Item* item = in.listing.next(error)) {
    File& directory = in.listing.directory();
    if (item->type != FileType::directory) {
      unlink_in(directory, item->name, 0, error);
      count += !error ? 1 : 0;
      in.any = in.any || !error;
      if (vanished(error)) error.clear();
      if (error && error != std::errc::is_a_directory) return {};
      if (!error) continue;
    }
    name = item->name;
    File inner = File::open(name, {.directory = true, .no_follow = true, .in = &directory}, error);
    if (!error) return inner;
    if (!vanished(error)) return {};
    error.clear();
  }
  return {};
}

/// Removes the directory last opened, which is empty now.
void remove_last(std::vector<std::unique_ptr<Doomed>>& doomed, std::uint64_t& count, std::error_code& error) {
  const std::string name = std::move(doomed.back()->name);
  doomed.pop_back();
  unlink_in(doomed.back()->listing.directory(), name.c_str(), AT_REMOVEDIR, error);
  count += !error ? 1 : 0;
  doomed.back()->any = doomed.back()->any || !error;
  if (vanished(error)) error.clear();
}

void empty(File root, std::uint64_t& count, std::error_code& error) {
  std::vector<std::unique_ptr<Doomed>> doomed;
  doomed.push_back(std::make_unique<Doomed>(std::move(root), ""));
  while (!error) {
    Doomed& last = *doomed.back();
    std::string name;
    File inner = remove_files(last, name, count, error);
    if (error) return;
    if (inner) {
      doomed.push_back(std::make_unique<Doomed>(std::move(inner), std::move(name)));
    } else if (std::exchange(last.any, false)) {
      last.listing.rewind(error);  // a file system may have lost its place when names went
    } else if (doomed.size() == 1) {
      return;
    } else {
      remove_last(doomed, count, error);
    }
  }
}

}  // namespace

std::uint64_t remove_all(const std::string& path, std::error_code& error) {
  const bool plain = remove(path, error);
  if (error != std::errc::directory_not_empty && error != std::errc::file_exists) return plain ? 1 : 0;
  std::uint64_t count = 0;
  File root = File::open(path, {.directory = true, .no_follow = true}, error);
  if (!error) empty(std::move(root), count, error);
  if (!error && remove(path, error)) ++count;
  return count;
}

std::uint64_t remove_all(const std::string& path) {
  return or_throw([&] { return "remove " + path + " and what is in it"; },
                  [&](std::error_code& error) { return remove_all(path, error); });
}

// --- Walking
// ----------------------------------------------------------------------------------------------------------

struct Walker::Level {
  Level(File directory, std::string its_path, FileStatus what)
      : listing(std::move(directory)), path(std::move(its_path)), status(what) {}
  Listing listing;
  std::string path;
  FileStatus status;
};

Walker::Walker(std::string path, WalkOptions options) : options_(std::move(options)) {
  entry_.path = std::move(path);
  entry_.type = FileType::directory;
}
Walker::Walker(Walker&&) noexcept = default;
Walker& Walker::operator=(Walker&&) noexcept = default;
Walker::~Walker() = default;

void Walker::skip() noexcept { enters_ = false; }

bool Walker::in_circle(const FileStatus& status) const noexcept {
  for (const auto& level : levels_) {
    if (level->status.same_file(status)) return true;
  }
  return false;
}

/// Goes into the directory at entry_. False: it can not, or need not be gone into.
bool Walker::enter(std::error_code& error) {
  File* above = levels_.empty() ? nullptr : &levels_.back()->listing.directory();
  const bool follows = options_.follow_links || above == nullptr;
  const std::string name = above == nullptr ? entry_.path : std::string(entry_.name());
  File directory = File::open(name, {.directory = true, .no_follow = !follows, .in = above}, error);
  if (error) return false;
  FileStatus status;
  if (options_.follow_links) {
    status = directory.status(error);
    if (error || in_circle(status)) return false;
  }
  levels_.push_back(std::make_unique<Level>(std::move(directory), entry_.path, status));
  return true;
}

/// The directory whose end has been reached.
const WalkEntry* Walker::leave() {
  entry_.path = std::move(levels_.back()->path);
  entry_.type = FileType::directory;
  levels_.pop_back();
  entry_.depth = levels_.size();
  return options_.contents_first && !levels_.empty() ? &entry_ : nullptr;
}

/// Makes what was found the entry. False: it has vanished.
bool Walker::take(std::string_view name, FileType type, std::error_code& error) {
  Level& level = *levels_.back();
  entry_.path.assign(level.path);
  if (entry_.path.empty() || entry_.path.back() != '/') entry_.path += '/';
  entry_.path += name;
  entry_.depth = levels_.size();
  const bool link = type == FileType::symlink && options_.follow_links;
  if (type == FileType::unknown || link) {
    const std::string own(name);
    type = status_in(level.listing.directory(), own.c_str(), options_.follow_links, error).type;
    if (error && options_.follow_links) type = status_in(level.listing.directory(), own.c_str(), false, error).type;
    if (vanished(error)) {
      error.clear();
      return false;
    }
  }
  entry_.type = type;
  return true;
}

/// Whether the error is somebody else's to deal with now: the walk's options may take it.
bool Walker::tell(std::error_code& error) {
  if (vanished(error) && !levels_.empty()) {
    error.clear();
  } else if (options_.on_error && error != std::errc::operation_canceled) {
    options_.on_error(entry_.path, error);
    error.clear();
  }
  return static_cast<bool>(error);
}

const WalkEntry* Walker::next(std::error_code& error) {
  error.clear();
  for (;;) {
    const bool directory = entry_.type == FileType::directory && levels_.size() < options_.depth_max;
    if (std::exchange(enters_, false) && directory) {
      const bool entered = enter(error);
      if (error == std::errc::too_many_symbolic_link_levels || error == std::errc::not_a_directory) {
        if (!levels_.empty()) error.clear();  // no longer the directory that it was
      }
      if (error && tell(error)) return nullptr;
      if (!entered && options_.contents_first && !levels_.empty()) return &entry_;
    }
    if (levels_.empty()) return nullptr;
    const Listing::Item* item = levels_.back()->listing.next(error);
    if (item == nullptr) {
      const std::error_code why = std::exchange(error, {});
      const WalkEntry* left = leave();
      error = why;
      if (error && tell(error)) return nullptr;
      if (left != nullptr) return left;
      continue;
    }
    if (!take(item->name, item->type, error)) continue;
    if (error && tell(error)) return nullptr;
    enters_ = entry_.type == FileType::directory;
    if (!enters_ || !options_.contents_first || levels_.size() >= options_.depth_max) return &entry_;
  }
}

const WalkEntry* Walker::next() {
  return or_throw([&] { return "walk through " + entry_.path; }, [&](std::error_code& error) { return next(error); });
}

}  // namespace bight::fs
