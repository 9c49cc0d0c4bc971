// SPDX-License-Identifier: Apache-2.0
#include <bight/file_watch.hpp>

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <bight/deadline.hpp>
#include <bight/directory.hpp>
#include <bight/error.hpp>
#include <bight/offload.hpp>
#include <bight/time.hpp>

#include "loop.hpp"

namespace bight {
namespace {

constexpr std::uint32_t kMask = IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVE |
                                IN_DELETE_SELF | IN_MOVE_SELF | IN_EXCL_UNLINK;

/// How long the second half of a move may stay behind the first: they are two steps of one rename(2).
constexpr Duration kPairTime = std::chrono::milliseconds(1);

Fd make_inotify() {
  if (detail::Loop::require().engine_is_virtual()) {
    detail::throw_error(std::make_error_code(std::errc::operation_not_supported), "watch files in a simulated world");
  }
  Fd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd) detail::throw_error(std::error_code(errno, std::generic_category()), "watch files (inotify_init)");
  return fd;
}

/// Whether `path` is `folder` or something in it.
bool lies_in(const std::string& path, const std::string& folder) noexcept {
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

}  // namespace

/// One of the kernel's.
struct FileWatch::Found {
  int number;
  std::uint32_t mask;
  std::uint32_t cookie;
  std::string_view name;
  [[nodiscard]] bool is(std::uint32_t bit) const noexcept { return (mask & bit) != 0; }
};

FileWatch::FileWatch() : fd_(make_inotify()), watch_(fd_.get()) {}

// --- What is watched
// --------------------------------------------------------------------------------------------------

/// Watches one file or directory; on a thread, for the path has to be looked up.
int FileWatch::add_one(const std::string& path, std::error_code& error) {
  error.clear();
  int result = -1;
  try {
    result = offload([&] {
      const int number = ::inotify_add_watch(fd_.get(), path.c_str(), kMask);
      return number < 0 ? -errno : number;
    });
    if (result < 0) error = std::error_code(-result, std::generic_category());
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  } catch (const std::system_error& refused) {
    error = refused.code();
  }
  return result;
}

void FileWatch::add(const std::string& path, const FileWatchOptions& options, std::error_code& error) {
  const int number = add_one(path, error);
  if (error) return;
  places_[number] = {path, options.recursive};
  std::erase_if(roots_, [&](const Place& root) { return root.path == path; });
  roots_.push_back({path, options.recursive});
  if (options.recursive) add_below(path, false, error);
}

void FileWatch::add(const std::string& path, const FileWatchOptions& options) {
  std::error_code error;
  add(path, options, error);
  if (error) detail::throw_error(error, "watch " + path);
}

/// Watches the directories in a directory, too. What has vanished meanwhile is passed over.
void FileWatch::add_below(const std::string& path, bool tells, std::error_code& error) {
  fs::Walker walker(path, {.on_error = [](const std::string&, std::error_code) {}});
  while (const fs::WalkEntry* entry = walker.next(error)) {
    const bool directory = entry->type == FileType::directory;
    if (tells) events_.push_back({FileEvent::Kind::created, entry->path, {}, directory});
    if (!directory) continue;
    const int number = add_one(entry->path, error);
    if (!error) places_[number] = {entry->path, true};
    if (error == std::errc::no_such_file_or_directory || error == std::errc::permission_denied) error.clear();
    if (error) return;
  }
}

void FileWatch::remove(const std::string& path) noexcept {
  std::erase_if(roots_, [&](const Place& root) { return root.path == path; });
  forget_places(path);
}

void FileWatch::forget_places(const std::string& path) {
  std::erase_if(places_, [&](const auto& each) {
    if (!lies_in(each.second.path, path)) return false;
    ::inotify_rm_watch(fd_.get(), each.first);
    return true;
  });
}

void FileWatch::rename_places(const std::string& from, const std::string& to) {
  for (auto& [number, place] : places_) {
    if (lies_in(place.path, from)) place.path.replace(0, from.size(), to);
  }
}

/// Events were lost, perhaps of new directories.
void FileWatch::look_again() {
  const Shield shield;
  std::error_code unheeded;
  const std::vector<Place> roots = roots_;
  for (const Place& root : roots) {
    if (root.recursive) add_below(root.path, false, unheeded);
  }
}

// --- Events
// -----------------------------------------------------------------------------------------------------------

/// Takes what there is in the kernel's queue.
void FileWatch::read_now(std::error_code& error) {
  error.clear();
  alignas(::inotify_event) std::array<char, 4096> buffer;
  for (;;) {
    const ::ssize_t count = ::read(fd_.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN) error = std::error_code(errno, std::generic_category());
    if (count <= 0) return;
    for (const char* at = buffer.data(); at < buffer.data() + count;) {
      ::inotify_event event;
      std::memcpy(&event, at, sizeof event);
      const char* name = at + sizeof event;
      take({event.wd, event.mask, event.cookie, event.len != 0 ? std::string_view(name) : std::string_view()});
      at = name + event.len;
    }
  }
}

void FileWatch::settle_move() {
  if (!half_) return;
  if (half_->directory) forget_places(half_->path);
  events_.push_back(std::move(*half_));  // it has gone to where nobody watches
  half_.reset();
}

void FileWatch::take(const Found& event) {
  if (half_ && !(event.is(IN_MOVED_TO) && event.cookie == half_cookie_)) settle_move();
  if (event.is(IN_Q_OVERFLOW)) {
    events_.push_back({FileEvent::Kind::overflow, {}, {}, false});
    look_again();
    return;
  }
  if (event.is(IN_IGNORED)) {
    end_place(event.number);
    return;
  }
  const auto found = places_.find(event.number);
  if (found == places_.end()) return;
  const Place place = found->second;
  if (!event.name.empty()) {
    take_name(event, place);
  } else if (event.is(IN_ATTRIB | IN_MODIFY | IN_CLOSE_WRITE)) {
    const auto kind = event.is(IN_MODIFY)        ? FileEvent::Kind::modified
                      : event.is(IN_CLOSE_WRITE) ? FileEvent::Kind::closed
                                                 : FileEvent::Kind::attributes;
    events_.push_back({kind, place.path, {}, event.is(IN_ISDIR)});
  }
}

/// Something has happened to what is in a directory.
void FileWatch::take_name(const Found& event, const Place& place) {
  FileEvent told{FileEvent::Kind::created, place.path, {}, event.is(IN_ISDIR)};
  if (told.path.empty() || told.path.back() != '/') told.path += '/';
  told.path += event.name;
  const bool watched = place.recursive && told.directory;
  if (event.is(IN_MOVED_FROM)) {
    told.kind = FileEvent::Kind::removed;
    half_ = std::move(told);
    half_cookie_ = event.cookie;
    return;
  }
  if (event.is(IN_DELETE)) told.kind = FileEvent::Kind::removed;
  if (event.is(IN_MODIFY)) told.kind = FileEvent::Kind::modified;
  if (event.is(IN_CLOSE_WRITE)) told.kind = FileEvent::Kind::closed;
  if (event.is(IN_ATTRIB)) told.kind = FileEvent::Kind::attributes;
  const bool paired = event.is(IN_MOVED_TO) && half_;
  if (paired) {
    told.kind = FileEvent::Kind::moved;
    told.old_path = std::move(half_->path);
    half_.reset();
    if (told.directory) rename_places(told.old_path, told.path);
  }
  const bool comes = told.kind == FileEvent::Kind::created;
  const std::string path = told.path;
  events_.push_back(std::move(told));
  if (!watched || !comes) return;
  const Shield shield;  // the event is taken: nobody would watch the directory later
  std::error_code error;
  const int number = add_one(path, error);
  if (error) return;
  places_[number] = {path, true};
  add_below(path, true, error);
}

/// The kernel has stopped watching it.
void FileWatch::end_place(int number) {
  const auto found = places_.find(number);
  if (found == places_.end()) return;
  const std::string path = found->second.path;
  places_.erase(found);
  const bool root = std::erase_if(roots_, [&](const Place& each) { return each.path == path; }) != 0;
  if (root) events_.push_back({FileEvent::Kind::unwatched, path, {}, false});
}

std::optional<FileEvent> FileWatch::next(std::error_code& error) {
  error.clear();
  while (events_.empty()) {
    read_now(error);
    if (!error && half_ && events_.empty()) {
      try {
        sleep_for(kPairTime);
        read_now(error);
      } catch (const Cancelled&) {  // the next call will tell
      }
      settle_move();
    }
    if (error || !events_.empty()) break;
    watch_.wait_readable(error);
    if (error) break;
  }
  if (events_.empty()) return std::nullopt;
  error.clear();
  FileEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

FileEvent FileWatch::next() {
  std::error_code error;
  std::optional<FileEvent> event = next(error);
  if (!event) detail::throw_error(error, "wait for changes of files");
  return std::move(*event);
}

std::optional<FileEvent> FileWatch::try_next() {
  std::error_code error;
  if (events_.empty()) read_now(error);
  if (half_ && events_.empty()) {
    sleep_for(kPairTime);
    read_now(error);
    settle_move();
  }
  if (events_.empty()) return std::nullopt;
  FileEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace bight
