// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What is in directories.
///
///     for (const bight::fs::WalkEntry& entry : bight::fs::Walker("src")) std::puts(entry.path.c_str());

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <bight/file_status.hpp>

namespace bight::fs {

struct DirectoryEntry {
  std::string name;
  FileType type = FileType::unknown;  ///< of a link, that it is one
};

/// All that is in a directory, but for "." and "..", in no order. What is added or removed meanwhile may be among it or
/// not.
[[nodiscard]] std::vector<DirectoryEntry> list_directory(const std::string& path);
[[nodiscard]] std::vector<DirectoryEntry> list_directory(const std::string& path, std::error_code& error);

/// Removes what is there, and if it is a directory all that is in it; never follows a link. Returns how much that was.
/// What others add meanwhile is removed, too, or makes it fail with directory_not_empty.
std::uint64_t remove_all(const std::string& path);
std::uint64_t remove_all(const std::string& path, std::error_code& error);

struct WalkOptions {
  bool follow_links = false;    ///< into the directories that they lead to, but never in a circle
  bool contents_first = false;  ///< a directory comes after what is in it, so that it may be removed then
  std::size_t depth_max = 256;  ///< directories within each other; deeper ones come, but are not gone into
  /// Called for a directory that can not be read (permissions, mostly), and the walk goes on. Without it, next() tells
  /// of the error, and going on after that is possible, too. Must not throw.
  std::function<void(const std::string& path, std::error_code error)> on_error{};
};

struct WalkEntry {
  std::string path;                   ///< begins with the path that the walk began with
  FileType type = FileType::unknown;  ///< of a link that is followed, that of what it leads to
  std::size_t depth = 0;              ///< 1: in the directory that the walk began with

  /// The part of the path behind the last slash.
  [[nodiscard]] std::string_view name() const noexcept {
    return std::string_view(path).substr(path.find_last_of('/') + 1);
  }
};

/// Goes through all that is in a directory and the directories in it; one entry at a time, in no order but that of
/// the tree. It holds one descriptor and 32 KiB for each directory between the first and the present one, however many
/// entries there are. What is added, removed or renamed meanwhile may be met or not; what has vanished is passed over,
/// and a directory that has become a link meanwhile is not followed.
///
/// Move-only; for one fiber at a time.
class Walker {
 public:
  explicit Walker(std::string path, WalkOptions options = {});
  Walker(Walker&&) noexcept;
  Walker& operator=(Walker&&) noexcept;
  ~Walker();

  /// Waits for the next one. Null at the end, or with an error. Good until the next call.
  [[nodiscard]] const WalkEntry* next();
  [[nodiscard]] const WalkEntry* next(std::error_code& error);
  /// Does not go into the directory that next() has just told of.
  void skip() noexcept;

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = WalkEntry;
    using difference_type = std::ptrdiff_t;
    using pointer = const WalkEntry*;
    using reference = const WalkEntry&;
    [[nodiscard]] reference operator*() const noexcept { return *entry_; }
    [[nodiscard]] pointer operator->() const noexcept { return entry_; }
    Iterator& operator++() {
      entry_ = walker_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return entry_ == nullptr; }

   private:
    friend class Walker;
    explicit Iterator(Walker& walker) : walker_(&walker), entry_(walker.next()) {}
    Walker* walker_;
    const WalkEntry* entry_;
  };
  [[nodiscard]] Iterator begin() { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  struct Level;
  [[nodiscard]] bool enter(std::error_code& error);
  [[nodiscard]] const WalkEntry* leave();
  [[nodiscard]] bool take(std::string_view name, FileType type, std::error_code& error);
  [[nodiscard]] bool tell(std::error_code& error);
  [[nodiscard]] bool in_circle(const FileStatus& status) const noexcept;

  WalkOptions options_;
  std::vector<std::unique_ptr<Level>> levels_;
  WalkEntry entry_;
  bool enters_ = true;  // the next step goes into the directory at entry_
};

}  // namespace bight::fs
