// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include <bight/copy.hpp>
#include <bight/deadline.hpp>
#include <bight/file.hpp>
#include <bight/filesystem.hpp>

#include "path_call.hpp"

namespace bight::fs {
namespace {

using detail::or_throw;

std::span<const std::byte> bytes_of(std::string_view text) noexcept { return std::as_bytes(std::span(text)); }

/// Reads to the end. Most files are small: their size is asked for only when one is not.
void read_rest(File& file, std::string& text, std::size_t limit, std::error_code& error) {
  constexpr std::size_t kFirst = std::size_t{16} * 1024;
  constexpr std::size_t kMost = std::size_t{1024} * 1024;  // at a time, lest a cancellation wait for long
  std::size_t filled = 0;
  for (bool asked = false;;) {
    if (filled == text.size()) {
      std::size_t room = std::max(kFirst, 2 * filled);
      if (filled != 0 && !std::exchange(asked, true)) {
        const std::uint64_t size = file.size(error);
        if (error) break;
        if (size > filled) room = static_cast<std::size_t>(std::min<std::uint64_t>(size, limit)) + 1;  // to see the end
      }
      text.resize(limit < room ? limit + 1 : room);
    }
    const auto free = std::as_writable_bytes(std::span(text)).subspan(filled);
    const std::size_t count = file.read(free.first(std::min(free.size(), kMost)), error);
    if (error || count == 0) break;
    filled += count;
    if (filled > limit) {
      error = std::make_error_code(std::errc::file_too_large);
      break;
    }
  }
  text.resize(error ? 0 : filled);
}

void write_with(const std::string& path, std::span<const std::byte> data, const OpenOptions& options,
                std::error_code& error) {
  File file = File::open(path, options, error);
  if (error) return;
  file.write_all(data, error);
  std::error_code closing;
  file.close(closing);  // which, over a network, is where a full disk is told of
  if (!error) error = closing;
}

constexpr OpenOptions kWrite{.write = true, .create = true, .truncate = true};
constexpr OpenOptions kAppend{.append = true, .create = true};

}  // namespace

// --- Reading
// ----------------------------------------------------------------------------------------------------------

std::string read_file(const std::string& path, std::size_t limit, std::error_code& error) {
  std::string text;
  File file = File::open(path, error);
  if (!error) read_rest(file, text, limit, error);
  return text;
}

std::string read_file(const std::string& path, std::error_code& error) {
  return read_file(path, std::numeric_limits<std::size_t>::max() - 1, error);
}

std::string read_file(const std::string& path, std::size_t limit) {
  limit = std::min(limit, std::numeric_limits<std::size_t>::max() - 1);
  return or_throw([&] { return "read " + path; },
                  [&](std::error_code& error) { return read_file(path, limit, error); });
}

// --- Writing
// ----------------------------------------------------------------------------------------------------------

void write_file(const std::string& path, std::span<const std::byte> data, std::error_code& error) {
  write_with(path, data, kWrite, error);
}

void write_file(const std::string& path, std::span<const std::byte> data) {
  or_throw([&] { return "write " + path; }, [&](std::error_code& error) { write_file(path, data, error); });
}

void write_file(const std::string& path, std::string_view text) { write_file(path, bytes_of(text)); }

void write_file(const std::string& path, std::string_view text, std::error_code& error) {
  write_file(path, bytes_of(text), error);
}

void append_file(const std::string& path, std::span<const std::byte> data, std::error_code& error) {
  write_with(path, data, kAppend, error);
}

void append_file(const std::string& path, std::span<const std::byte> data) {
  or_throw([&] { return "append to " + path; }, [&](std::error_code& error) { append_file(path, data, error); });
}

void append_file(const std::string& path, std::string_view text) { append_file(path, bytes_of(text)); }

void append_file(const std::string& path, std::string_view text, std::error_code& error) {
  append_file(path, bytes_of(text), error);
}

// --- Writing atomically
// -----------------------------------------------------------------------------------------------

namespace {

/// A new file beside the one that it is to replace.
File create_beside(const std::string& path, std::string& name, const AtomicWriteOptions& options,
                   std::error_code& error) {
  // Who may see it is settled before there is anything to be seen.
  OpenOptions how{.write = true, .exclusive = true, .mode = options.mode.value_or(0666)};
  const FileStatus old = link_status(path, error);
  const bool keeps_mode = !options.mode && !error && old.is_regular();
  if (keeps_mode) how.mode = old.mode & 0777U;
  if (error && error != std::errc::no_such_file_or_directory) return {};
  File file;
  do {
    name = path + '.' + detail::random_name() + ".tmp";
    file = File::open(name, how, error);
  } while (error == std::errc::file_exists);
  if (!error && (keeps_mode || options.mode)) file.set_mode(keeps_mode ? old.mode : *options.mode, error);  // no umask
  return file;
}

}  // namespace

void write_file_atomically(const std::string& path, std::span<const std::byte> data, const AtomicWriteOptions& options,
                           std::error_code& error) {
  std::string name;
  File file = create_beside(path, name, options, error);
  if (!file) return;
  if (!error) file.write_all(data, error);
  if (!error && options.sync) file.sync(error);
  std::error_code closing;
  file.close(closing);
  if (!error) error = closing;
  if (!error) rename(name, path, error);
  if (error) {
    const Shield shield;  // it has to go, cancelled or not
    std::error_code unheeded;
    remove(name, unheeded);
    return;
  }
  if (options.sync) sync_directory(detail::parent_of(path), error);
}

void write_file_atomically(const std::string& path, std::span<const std::byte> data,
                           const AtomicWriteOptions& options) {
  or_throw([&] { return "write " + path; },
           [&](std::error_code& error) { write_file_atomically(path, data, options, error); });
}

void write_file_atomically(const std::string& path, std::string_view text, const AtomicWriteOptions& options) {
  write_file_atomically(path, bytes_of(text), options);
}

// --- Copying
// ----------------------------------------------------------------------------------------------------------

void copy_file(const std::string& from, const std::string& to, std::error_code& error) {
  File source = File::open(from, error);
  if (error) return;
  const FileStatus status = source.status(error);
  if (error) return;
  if (status.is_directory()) {
    error = std::make_error_code(std::errc::is_a_directory);
    return;
  }
  File target = File::open(to, {.write = true, .create = true, .mode = status.mode & 0777U}, error);
  if (error) return;
  const FileStatus there = target.status(error);
  if (!error && there.same_file(status)) error = std::make_error_code(std::errc::file_exists);
  if (!error && there.is_regular()) target.truncate(0, error);
  if (!error) copy_data(source, target, error);
  if (!error && there.is_regular()) target.set_mode(status.mode & 0777U, error);
  std::error_code closing;
  target.close(closing);
  if (!error) error = closing;
}

void copy_file(const std::string& from, const std::string& to) {
  or_throw([&] { return "copy " + from + " to " + to; }, [&](std::error_code& error) { copy_file(from, to, error); });
}

}  // namespace bight::fs
