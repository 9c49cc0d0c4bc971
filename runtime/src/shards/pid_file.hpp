// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <bight/fd.hpp>

namespace bight::detail {

/// A file with this process's number in it, for as long as the process lives. What counts is the lock on it (fcntl(2):
/// it goes with the process, and children do not inherit it), not its being there: one that a crash left behind is
/// taken over. Removed when this goes, unless it is another's by then.
class PidFile {
 public:
  PidFile() noexcept = default;
  /// Throws std::system_error: file_exists when another process holds it. An empty path is no file.
  explicit PidFile(const std::string& path);
  PidFile(PidFile&&) noexcept = default;
  PidFile& operator=(PidFile&&) = delete;
  ~PidFile();

  /// Renames it to "….oldpid", so that a successor can have the name; and back. What can not be renamed is logged.
  void step_aside() noexcept;
  void step_back() noexcept;
  /// In a worker: the file is the supervisor's. Closing a descriptor of it there does the lock no harm.
  void forget() noexcept;

 private:
  void rename_to(const std::string& path) noexcept;

  std::string path_;  // where it is now
  std::string own_;   // where it belongs
  Fd file_;
};

}  // namespace bight::detail
