// SPDX-License-Identifier: Apache-2.0
#include <bight/filesystem.hpp>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <array>
#include <climits>

#include <bight/file.hpp>

#include "path_call.hpp"

namespace bight::fs {
namespace {

using detail::FileVerb;
using detail::or_throw;
using detail::PathCall;

FileStatus ask_for_status(const std::string& path, unsigned flags, std::error_code& error) noexcept {
  struct ::statx status {};
  PathCall call(FileVerb::stat, path, error);
  call.flags = flags;
  call.mode = STATX_BASIC_STATS | STATX_BTIME;
  call.status = &status;
  call.run(error);
  return error ? FileStatus{} : detail::to_file_status(status);
}

/// Whether nothing but the absence of what was asked about is the matter.
bool is_absent(std::error_code error) noexcept {
  return error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
}

::timespec to_timespec(std::optional<FileTime> time) noexcept {
  if (!time) return {0, UTIME_OMIT};
  const auto whole = std::chrono::floor<std::chrono::seconds>(*time);
  return {whole.time_since_epoch().count(), (*time - whole).count()};
}

}  // namespace

// --- What there is
// ----------------------------------------------------------------------------------------------------

FileStatus status(const std::string& path, std::error_code& error) noexcept { return ask_for_status(path, 0, error); }

FileStatus status(const std::string& path) {
  return or_throw([&] { return "ask for the status of " + path; },
                  [&](std::error_code& error) { return status(path, error); });
}

FileStatus link_status(const std::string& path, std::error_code& error) noexcept {
  return ask_for_status(path, AT_SYMLINK_NOFOLLOW, error);
}

FileStatus link_status(const std::string& path) {
  return or_throw([&] { return "ask for the status of " + path; },
                  [&](std::error_code& error) { return link_status(path, error); });
}

bool exists(const std::string& path, std::error_code& error) noexcept {
  static_cast<void>(link_status(path, error));
  if (!is_absent(error)) return !error;
  error.clear();
  return false;
}

bool exists(const std::string& path) {
  return or_throw([&] { return "ask for the status of " + path; },
                  [&](std::error_code& error) { return exists(path, error); });
}

// --- Names
// ------------------------------------------------------------------------------------------------------------

void rename(const std::string& from, const std::string& to, RenameRule rule, std::error_code& error) noexcept {
  constexpr std::array<unsigned, 3> kFlags{0, RENAME_NOREPLACE, RENAME_EXCHANGE};
  PathCall call(FileVerb::rename, from, to, error);
  call.flags = kFlags[static_cast<std::size_t>(rule)];
  call.run(error);
}

void rename(const std::string& from, const std::string& to, std::error_code& error) noexcept {
  rename(from, to, RenameRule::replace, error);
}

void rename(const std::string& from, const std::string& to, RenameRule rule) {
  or_throw([&] { return "rename " + from + " to " + to; },
           [&](std::error_code& error) { rename(from, to, rule, error); });
}

bool remove(const std::string& path, std::error_code& error) noexcept {
  PathCall call(FileVerb::unlink, path, error);
  call.run(error);
  if (error == std::errc::is_a_directory) {
    PathCall again(FileVerb::unlink, path, error);
    again.flags = AT_REMOVEDIR;
    again.run(error);
  }
  if (!is_absent(error)) return !error;
  error.clear();
  return false;
}

bool remove(const std::string& path) {
  return or_throw([&] { return "remove " + path; }, [&](std::error_code& error) { return remove(path, error); });
}

bool create_directory(const std::string& path, unsigned mode, std::error_code& error) noexcept {
  PathCall call(FileVerb::make_dir, path, error);
  call.mode = mode;
  call.run(error);
  if (error != std::errc::file_exists) return !error;
  const FileStatus there = status(path, error);
  if (!error && !there.is_directory()) error = std::make_error_code(std::errc::file_exists);
  return false;
}

bool create_directory(const std::string& path, std::error_code& error) noexcept {
  return create_directory(path, 0777, error);
}

bool create_directory(const std::string& path, unsigned mode) {
  return or_throw([&] { return "make the directory " + path; },
                  [&](std::error_code& error) { return create_directory(path, mode, error); });
}

bool create_directories(const std::string& path, unsigned mode, std::error_code& error) {
  bool made = create_directory(path, mode, error);
  if (error != std::errc::no_such_file_or_directory || path.empty()) return made;
  // From the first that is missing down: the end of what is there is looked for backwards, for most of it is.
  const std::string above = detail::parent_of(path);
  if (above.size() >= path.size()) return false;
  create_directories(above, mode, error);
  if (!error) made = create_directory(path, mode, error);
  return made;
}

bool create_directories(const std::string& path, std::error_code& error) {
  return create_directories(path, 0777, error);
}

bool create_directories(const std::string& path, unsigned mode) {
  return or_throw([&] { return "make the directory " + path; },
                  [&](std::error_code& error) { return create_directories(path, mode, error); });
}

void create_symlink(const std::string& target, const std::string& path, std::error_code& error) noexcept {
  PathCall(FileVerb::symlink, target, path, error).run(error);
}

void create_symlink(const std::string& target, const std::string& path) {
  or_throw([&] { return "make the symbolic link " + path; },
           [&](std::error_code& error) { create_symlink(target, path, error); });
}

std::string read_symlink(const std::string& path, std::error_code& error) {
  std::string target;
  std::size_t length = 0;
  do {  // what fills the buffer may have been cut short
    target.resize(target.empty() ? 256 : 2 * target.size());
    PathCall call(FileVerb::read_link, path, error);
    call.data = target.data();
    call.size = target.size();
    length = call.run(error);
  } while (!error && length == target.size() && length < PATH_MAX);
  target.resize(length);
  return target;
}

std::string read_symlink(const std::string& path) {
  return or_throw([&] { return "read the symbolic link " + path; },
                  [&](std::error_code& error) { return read_symlink(path, error); });
}

void create_hard_link(const std::string& existing, const std::string& path, std::error_code& error) noexcept {
  PathCall(FileVerb::link, existing, path, error).run(error);
}

void create_hard_link(const std::string& existing, const std::string& path) {
  or_throw([&] { return "give " + existing + " the name " + path; },
           [&](std::error_code& error) { create_hard_link(existing, path, error); });
}

// --- Attributes
// -------------------------------------------------------------------------------------------------------

void set_mode(const std::string& path, unsigned mode, std::error_code& error) noexcept {
  PathCall call(FileVerb::set_mode, path, error);
  call.mode = mode;
  call.run(error);
}

void set_mode(const std::string& path, unsigned mode) {
  or_throw([&] { return "set the permissions of " + path; },
           [&](std::error_code& error) { set_mode(path, mode, error); });
}

void set_owner(const std::string& path, std::optional<std::uint32_t> owner, std::optional<std::uint32_t> group,
               std::error_code& error) noexcept {
  PathCall call(FileVerb::set_owner, path, error);
  call.owner = owner.value_or(~0U);
  call.group = group.value_or(~0U);
  call.run(error);
}

void set_owner(const std::string& path, std::optional<std::uint32_t> owner, std::optional<std::uint32_t> group) {
  or_throw([&] { return "set the owner of " + path; },
           [&](std::error_code& error) { set_owner(path, owner, group, error); });
}

void set_times(const std::string& path, std::optional<FileTime> accessed, std::optional<FileTime> modified,
               std::error_code& error) noexcept {
  const std::array<::timespec, 2> times{to_timespec(accessed), to_timespec(modified)};
  PathCall call(FileVerb::set_times, path, error);
  call.times = times.data();
  call.run(error);
}

void set_times(const std::string& path, std::optional<FileTime> accessed, std::optional<FileTime> modified) {
  or_throw([&] { return "set the times of " + path; },
           [&](std::error_code& error) { set_times(path, accessed, modified, error); });
}

void sync_directory(const std::string& path, std::error_code& error) noexcept {
  File directory = File::open(path, {.directory = true}, error);
  if (error) return;
  directory.sync(error);
}

void sync_directory(const std::string& path) {
  or_throw([&] { return "sync the directory " + path; }, [&](std::error_code& error) { sync_directory(path, error); });
}

}  // namespace bight::fs
