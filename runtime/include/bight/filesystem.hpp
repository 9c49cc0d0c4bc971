// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Whole files and names. As with File, nothing here blocks the loop, and every function has a form that throws
/// std::system_error ("rename a to b: No such file or directory") and one with a trailing std::error_code&. A cancelled
/// fiber begins nothing more; what has been done of several steps stays done unless it says otherwise.
///
/// They are in a namespace of their own, for rename(2), remove(3) and the like are in the global one, block, and would
/// be preferred after a `using namespace bight`.
///
///     namespace fs = bight::fs;
///     fs::write_file_atomically("state.json", text);
///
/// Directories' contents: directory.hpp. Temporary ones: temporary.hpp.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <bight/file_status.hpp>

namespace bight::fs {

// --- Whole files
// ------------------------------------------------------------------------------------------------------

/// All that is in a file. One with more than `limit` bytes is file_too_large.
[[nodiscard]] std::string read_file(const std::string& path,
                                    std::size_t limit = std::numeric_limits<std::size_t>::max());
[[nodiscard]] std::string read_file(const std::string& path, std::error_code& error);
[[nodiscard]] std::string read_file(const std::string& path, std::size_t limit, std::error_code& error);

/// Makes the file if there is none; what it had is dropped first. After an error, or a cancellation, it may have a
/// part.
void write_file(const std::string& path, std::span<const std::byte> data);
void write_file(const std::string& path, std::span<const std::byte> data, std::error_code& error);
void write_file(const std::string& path, std::string_view text);
void write_file(const std::string& path, std::string_view text, std::error_code& error);

/// Adds to its end; makes it if there is none.
void append_file(const std::string& path, std::span<const std::byte> data);
void append_file(const std::string& path, std::span<const std::byte> data, std::error_code& error);
void append_file(const std::string& path, std::string_view text);
void append_file(const std::string& path, std::string_view text, std::error_code& error);

struct AtomicWriteOptions {
  /// Survives a loss of power once this has returned. Without it, a loss of power may leave the old content, or none.
  bool sync = true;
  std::optional<unsigned>
      mode{};  ///< permissions; nothing: those of the file that is replaced, else 0666 less the umask
};

/// Puts a new file in the place of the one of that name: who opens it sees the old content or the new one, never a
/// part, and after an error or a cancellation the old one is there as it was. The new file is made beside it, so the
/// directory must be writable; a symbolic link is replaced, not followed; other names of the old file keep the old
/// content.
void write_file_atomically(const std::string& path, std::span<const std::byte> data,
                           const AtomicWriteOptions& options = {});
void write_file_atomically(const std::string& path, std::string_view text, const AtomicWriteOptions& options = {});
void write_file_atomically(const std::string& path, std::span<const std::byte> data, const AtomicWriteOptions& options,
                           std::error_code& error);

/// Makes `to` what `from` is, permissions included; replaces what it had. Where the file system can share the blocks of
/// the two, it does. A file is not copied to itself: file_exists. After an error `to` may have a part.
void copy_file(const std::string& from, const std::string& to);
void copy_file(const std::string& from, const std::string& to, std::error_code& error);

// --- What there is
// ----------------------------------------------------------------------------------------------------

/// Of what a symbolic link leads to.
[[nodiscard]] FileStatus status(const std::string& path);
[[nodiscard]] FileStatus status(const std::string& path, std::error_code& error) noexcept;
/// Of the link itself.
[[nodiscard]] FileStatus link_status(const std::string& path);
[[nodiscard]] FileStatus link_status(const std::string& path, std::error_code& error) noexcept;
/// Whether there is something of that name, and be it a link that leads nowhere. (By the time this returns there may no
/// longer be: better try, and look at the error.)
[[nodiscard]] bool exists(const std::string& path);
[[nodiscard]] bool exists(const std::string& path, std::error_code& error) noexcept;

// --- Names
// ------------------------------------------------------------------------------------------------------------

enum class RenameRule : unsigned char {
  replace,   ///< a file (or an empty directory) of the new name is replaced, in one step
  keep,      ///< there must be none: file_exists
  exchange,  ///< there must be one, and the two swap names
};

void rename(const std::string& from, const std::string& to, RenameRule rule = RenameRule::replace);
void rename(const std::string& from, const std::string& to, std::error_code& error) noexcept;
void rename(const std::string& from, const std::string& to, RenameRule rule, std::error_code& error) noexcept;

/// A file, a link (not what it leads to) or an empty directory. Whether there was one.
bool remove(const std::string& path);
bool remove(const std::string& path, std::error_code& error) noexcept;

/// Whether it has been made; false: there was a directory of that name already.
bool create_directory(const std::string& path, unsigned mode = 0777);
bool create_directory(const std::string& path, std::error_code& error) noexcept;
bool create_directory(const std::string& path, unsigned mode, std::error_code& error) noexcept;
/// With those above it that are missing, too.
bool create_directories(const std::string& path, unsigned mode = 0777);
bool create_directories(const std::string& path, std::error_code& error);
bool create_directories(const std::string& path, unsigned mode, std::error_code& error);

void create_symlink(const std::string& target, const std::string& path);
void create_symlink(const std::string& target, const std::string& path, std::error_code& error) noexcept;
[[nodiscard]] std::string read_symlink(const std::string& path);
[[nodiscard]] std::string read_symlink(const std::string& path, std::error_code& error);
void create_hard_link(const std::string& existing, const std::string& path);
void create_hard_link(const std::string& existing, const std::string& path, std::error_code& error) noexcept;

// --- Attributes
// -------------------------------------------------------------------------------------------------------

void set_mode(const std::string& path, unsigned mode);
void set_mode(const std::string& path, unsigned mode, std::error_code& error) noexcept;
/// Nothing: leave it as it is.
void set_owner(const std::string& path, std::optional<std::uint32_t> owner, std::optional<std::uint32_t> group);
void set_owner(const std::string& path, std::optional<std::uint32_t> owner, std::optional<std::uint32_t> group,
               std::error_code& error) noexcept;
void set_times(const std::string& path, std::optional<FileTime> accessed, std::optional<FileTime> modified);
void set_times(const std::string& path, std::optional<FileTime> accessed, std::optional<FileTime> modified,
               std::error_code& error) noexcept;

/// Returns when the names in a directory, as they are now, would survive a loss of power.
void sync_directory(const std::string& path);
void sync_directory(const std::string& path, std::error_code& error) noexcept;

}  // namespace bight::fs
