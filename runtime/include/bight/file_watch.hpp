// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <bight/fd.hpp>
#include <bight/fd_watch.hpp>

namespace bight {

/// What has happened to a file or directory that is watched, or to something in such a directory.
struct FileEvent {
  enum class Kind : unsigned char {
    created,
    removed,     ///< or moved to where nobody watches
    modified,    ///< its content
    closed,      ///< by somebody who had it open for writing: what was being written is complete
    attributes,  ///< permissions, times, number of names …
    moved,       ///< from old_path to path, both of which are watched
    unwatched,   ///< it is no longer watched: it has been removed, or its file system unmounted
    overflow,    ///< too much has happened at a time, and events were lost; there is no path. Look for yourself
  };
  Kind kind;
  std::string path;      ///< begins with the path that add() was given
  std::string old_path;  ///< moved: what it was called before
  bool directory = false;
};

struct FileWatchOptions {
  bool recursive = false;  ///< directories in the directory as well, those that come later, too
};

/// Tells of changes to files and directories, by inotify(7).
///
///     bight::FileWatch watch;
///     watch.add("/etc/app");
///     for (;;) reload(watch.next().path);
///
/// A directory tells of itself and of what is directly in it. A file that is watched by its own name is lost when it is
/// replaced by another (as write_file_atomically and editors do): better watch the directory. Changes by mmap(2), on
/// the other side of a network file system and in /proc are not seen. What happens in a new directory before it is
/// watched, too, is made up for: what is found there is told of as created, which may be the second time.
///
/// A watch takes memory in the kernel; fs.inotify.max_user_watches limits them (no_space_on_device), as
/// fs.inotify.max_user_instances does the FileWatches (too_many_files_open). Not under the sim engine:
/// operation_not_supported.
///
/// Belongs to the loop it was made on; stays where it is; one fiber at a time waits for events.
class FileWatch {
 public:
  /// Throws std::system_error.
  FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  /// Waits until it is watched, which for a directory with many others in it takes a while. Adding again is harmless.
  void add(const std::string& path, const FileWatchOptions& options = {});
  void add(const std::string& path, const FileWatchOptions& options, std::error_code& error);
  /// What was added by this path, with the directories in it. Harmless when it is not watched.
  void remove(const std::string& path) noexcept;

  /// Waits for the next event.
  FileEvent next();
  std::optional<FileEvent> next(std::error_code& error);
  /// The next one if there is one now. (When something has been moved it may wait for a millisecond for the second half
  /// of that.)
  std::optional<FileEvent> try_next();
  /// A case of select(). The handler is to take all there is with try_next() before the next select, which does not
  /// know of events that were read and not taken.
  template <class F>
  [[nodiscard]] auto on_events(F&& handler) {
    return watch_.on_readable(std::forward<F>(handler));
  }

 private:
  struct Place {
    std::string path;
    bool recursive = false;
  };
  struct Found;

  [[nodiscard]] int add_one(const std::string& path, std::error_code& error);
  void add_below(const std::string& path, bool tells, std::error_code& error);
  void read_now(std::error_code& error);
  void take(const Found& event);
  void take_name(const Found& event, const Place& place);
  void end_place(int number);
  void settle_move();
  void rename_places(const std::string& from, const std::string& to);
  void forget_places(const std::string& path);
  void look_again();

  Fd fd_;
  FdWatch watch_;
  std::unordered_map<int, Place> places_;
  std::vector<Place> roots_;
  std::deque<FileEvent> events_;
  std::optional<FileEvent> half_;  // a move whose new name has not been seen yet
  std::uint32_t half_cookie_ = 0;
};

}  // namespace bight
