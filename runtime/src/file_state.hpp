// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>

#include <bight/detail/loop_bound.hpp>
#include <bight/fd_watch.hpp>
#include <bight/file.hpp>
#include <bight/mutex.hpp>

#include "engine/file_op.hpp"

namespace bight::detail {

/// An open file: what the File and the operations under way have in common. The last of them closes it. Not for other
/// threads; not in the FdTable, as any number of operations may use it at a time.
struct FileState {
  FileState(int descriptor, ::mode_t what, std::string opened_as)
      : fd(descriptor), type(what), path(std::move(opened_as)) {}

  /// Whether a read or write may have to wait without end; then the descriptor is O_NONBLOCK.
  [[nodiscard]] bool waits() const noexcept { return type == S_IFIFO || type == S_IFSOCK || type == S_IFCHR; }

  int fd;
  ::mode_t type;
  bool appends = false;   // open for appending
  bool cached = true;     // reads go through the page cache
  std::uint8_t cold = 0;  // so many reads are not tried in memory first, for the last one that was missed
  std::size_t users = 1;  // the File is one
  bool closed = false;    // by its File; what is under way goes on
  LoopBound bound;
  Mutex cursor;                  // held by who reads or writes at the cursor
  std::optional<FdWatch> watch;  // of a file that may have to be waited for, once it had to
  bool begun = false;            // a FIFO has had a writer
  std::string path;
};

/// The File has been closed: no verb begins any more, and those that might wait without end do not.
void mark_closed(FileState& state) noexcept;

/// Closes the descriptor at once, on this thread, and forgets the file. Returns 0 or -errno.
int close_now(FileState& state) noexcept;

/// A file that a verb uses: open until the verb has ended, whatever becomes of the File.
class FileUse {
 public:
  /// Reports bad_file_descriptor for null.
  FileUse(FileState* state, std::error_code& error) noexcept : state_(state) {
    error.clear();
    if (state == nullptr) {
      error = std::make_error_code(std::errc::bad_file_descriptor);
      return;
    }
    state->bound.enter();
    ++state->users;
  }
  FileUse(const FileUse&) = delete;
  FileUse& operator=(const FileUse&) = delete;
  ~FileUse() {
    if (state_ != nullptr && --state_->users == 0) close_now(*state_);
  }
  explicit operator bool() const noexcept { return state_ != nullptr; }
  [[nodiscard]] FileState& operator*() const noexcept { return *state_; }
  [[nodiscard]] FileState* operator->() const noexcept { return state_; }

 private:
  FileState* state_;
};

/// The turn at a file's cursor. Files without one (FIFOs, terminals) have no turns.
class CursorTurn {
 public:
  /// Waits. `wanted`: whether the verb takes place at the cursor at all.
  CursorTurn(FileState& state, bool wanted, std::error_code& error) noexcept;
  CursorTurn(const CursorTurn&) = delete;
  CursorTurn& operator=(const CursorTurn&) = delete;
  ~CursorTurn() {
    if (held_ != nullptr) held_->unlock();
  }

 private:
  Mutex* held_ = nullptr;
};

/// Carries out `op`, stores its error and returns its result, or 0.
std::size_t settle(FileOp& op, std::error_code& error) noexcept;

/// A path as system calls take it. One with a zero byte in it would be cut short: invalid_argument.
[[nodiscard]] bool usable(const std::string& path, std::error_code& error) noexcept;

[[nodiscard]] inline std::error_code error_of(int result) noexcept {
  return result < 0 ? std::error_code(-result, std::generic_category()) : std::error_code();
}

/// What the private parts of File look like from inside.
struct FileAccess {
  [[nodiscard]] static FileState* state(const File& file) noexcept { return file.state_; }
};

}  // namespace bight::detail
