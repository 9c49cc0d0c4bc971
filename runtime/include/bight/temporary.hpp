// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Files and directories that go with the objects that made them.

#include <string>
#include <system_error>
#include <utility>

#include <bight/file.hpp>

namespace bight::fs {

/// $TMPDIR, or /tmp.
[[nodiscard]] std::string temporary_directory_path();

/// A new directory, for its owner only (0700), with a name that nobody has. Removed with all that is in it when the
/// object goes, which waits (whatever the fiber's cancellations) and ignores errors: remove() does not. Move-only.
class TemporaryDirectory {
 public:
  TemporaryDirectory() noexcept = default;
  /// Made in `parent`. Throws std::system_error.
  explicit TemporaryDirectory(const std::string& prefix, const std::string& parent = temporary_directory_path());
  TemporaryDirectory(const std::string& prefix, const std::string& parent, std::error_code& error);
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryDirectory& operator=(TemporaryDirectory&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~TemporaryDirectory();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// What is in it: path() / `name`.
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + '/' + name; }
  void remove();
  void remove(std::error_code& error);
  /// It stays.
  std::string keep() noexcept { return std::exchange(path_, {}); }

 private:
  std::string path_;
};

/// A new file, for its owner only (0600), open for reading and writing, with a name that nobody has; removed when the
/// object goes, as a TemporaryDirectory is. Where the name is not needed, OpenOptions::temporary needs no removal.
/// Move-only.
class TemporaryFile {
 public:
  TemporaryFile() noexcept = default;
  explicit TemporaryFile(const std::string& prefix, const std::string& parent = temporary_directory_path());
  TemporaryFile(const std::string& prefix, const std::string& parent, std::error_code& error);
  TemporaryFile(TemporaryFile&& other) noexcept
      : file_(std::move(other.file_)), path_(std::exchange(other.path_, {})) {}
  TemporaryFile& operator=(TemporaryFile&& other) noexcept {
    file_.swap(other.file_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~TemporaryFile();

  [[nodiscard]] File& file() noexcept { return file_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The name stays.
  std::string keep() noexcept { return std::exchange(path_, {}); }

 private:
  File file_;
  std::string path_;
};

}  // namespace bight::fs
