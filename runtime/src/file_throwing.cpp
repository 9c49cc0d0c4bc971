// SPDX-License-Identifier: Apache-2.0

/// The forms of File's verbs that throw.

#include <string>
#include <type_traits>

#include <bight/error.hpp>
#include <bight/file.hpp>

#include "file_state.hpp"

namespace bight {

void File::fail(std::error_code error, std::string what) const {
  if (state_ != nullptr) {
    what += ' ';
    what += state_->path.empty() ? "descriptor " + std::to_string(state_->fd) : state_->path;
  } else {
    what += " a file that is closed";
  }
  detail::throw_error(error, what);
}

template <class Call>
auto File::checked(const char* what, Call&& call) {
  std::error_code error;
  if constexpr (std::is_void_v<std::invoke_result_t<Call&, std::error_code&>>) {
    call(error);
    if (error) fail(error, what);
  } else {
    auto result = call(error);
    if (error) fail(error, what);
    return result;
  }
}

namespace {

std::string so_far(const char* what, const std::string& path, std::error_code error, std::size_t done,
                   std::size_t wanted) {
  std::string text = std::string(what) + ' ' + path;
  text += error == std::errc::no_message_available ? ": end of file after " : ": after ";
  return text + std::to_string(done) + " of " + std::to_string(wanted) + " bytes";
}

}  // namespace

File File::open(const std::string& path, const OpenOptions& options) {
  std::error_code error;
  File file = open(path, options, error);
  if (error) detail::throw_error(error, "open " + path);
  return file;
}

File File::create(const std::string& path) {
  std::error_code error;
  File file = create(path, error);
  if (error) detail::throw_error(error, "create " + path);
  return file;
}

File File::adopt(Fd&& fd) {
  std::error_code error;
  File file = adopt(std::move(fd), error);
  if (error) detail::throw_error(error, "use a descriptor as a file");
  return file;
}

void File::close() {
  const std::string name = path();
  std::error_code error;
  close(error);
  if (error) detail::throw_error(error, "close " + name);
}

std::size_t File::read(std::span<std::byte> buffer) {
  return checked("read from", [&](std::error_code& error) { return read(buffer, error); });
}

std::size_t File::read_at(std::span<std::byte> buffer, std::uint64_t offset) {
  return checked("read from", [&](std::error_code& error) { return read_at(buffer, offset, error); });
}

std::size_t File::read(std::span<const std::span<std::byte>> buffers) {
  return checked("read from", [&](std::error_code& error) { return read(buffers, error); });
}

std::size_t File::read_at(std::span<const std::span<std::byte>> buffers, std::uint64_t offset) {
  return checked("read from", [&](std::error_code& error) { return read_at(buffers, offset, error); });
}

std::size_t File::read_exactly(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t done = read_exactly(buffer, error);
  if (error) detail::throw_error(error, so_far("read from", path(), error, done, buffer.size()));
  return done;
}

std::size_t File::read_exactly_at(std::span<std::byte> buffer, std::uint64_t offset) {
  std::error_code error;
  const std::size_t done = read_exactly_at(buffer, offset, error);
  if (error) detail::throw_error(error, so_far("read from", path(), error, done, buffer.size()));
  return done;
}

std::size_t File::write(std::span<const std::byte> data) {
  return checked("write to", [&](std::error_code& error) { return write(data, error); });
}

std::size_t File::write_at(std::span<const std::byte> data, std::uint64_t offset) {
  return checked("write to", [&](std::error_code& error) { return write_at(data, offset, error); });
}

std::size_t File::write(std::span<const std::span<const std::byte>> pieces) {
  return checked("write to", [&](std::error_code& error) { return write(pieces, error); });
}

std::size_t File::write_at(std::span<const std::span<const std::byte>> pieces, std::uint64_t offset) {
  return checked("write to", [&](std::error_code& error) { return write_at(pieces, offset, error); });
}

std::size_t File::write_all(std::span<const std::byte> data) {
  std::error_code error;
  const std::size_t done = write_all(data, error);
  if (error) detail::throw_error(error, so_far("write to", path(), error, done, data.size()));
  return done;
}

std::size_t File::write_all(std::string_view text) { return write_all(std::as_bytes(std::span(text))); }

std::size_t File::write_all_at(std::span<const std::byte> data, std::uint64_t offset) {
  std::error_code error;
  const std::size_t done = write_all_at(data, offset, error);
  if (error) detail::throw_error(error, so_far("write to", path(), error, done, data.size()));
  return done;
}

std::uint64_t File::seek(std::int64_t offset, SeekFrom from) {
  return checked("seek in", [&](std::error_code& error) { return seek(offset, from, error); });
}

std::uint64_t File::tell() {
  return checked("ask for the cursor of", [&](std::error_code& error) { return tell(error); });
}

FileStatus File::status() {
  return checked("ask for the status of", [&](std::error_code& error) { return status(error); });
}

std::uint64_t File::size() {
  return checked("ask for the size of", [&](std::error_code& error) { return size(error); });
}

void File::truncate(std::uint64_t size) {
  checked("truncate", [&](std::error_code& error) { truncate(size, error); });
}

void File::sync() {
  checked("sync", [&](std::error_code& error) { sync(error); });
}

void File::data_sync() {
  checked("sync", [&](std::error_code& error) { data_sync(error); });
}

void File::allocate(std::uint64_t offset, std::uint64_t length) {
  checked("allocate room for", [&](std::error_code& error) { allocate(offset, length, error); });
}

void File::punch_hole(std::uint64_t offset, std::uint64_t length) {
  checked("punch a hole into", [&](std::error_code& error) { punch_hole(offset, length, error); });
}

void File::advise(FileAdvice advice, std::uint64_t offset, std::uint64_t length) {
  checked("advise on the use of", [&](std::error_code& error) { advise(advice, offset, length, error); });
}

void File::set_mode(unsigned mode) {
  checked("set the permissions of", [&](std::error_code& error) { set_mode(mode, error); });
}

DirectAlignment File::direct_alignment() {
  return checked("ask for the alignment of", [&](std::error_code& error) { return direct_alignment(error); });
}

void File::give_name(const std::string& path) {
  std::error_code error;
  give_name(path, error);
  if (error) detail::throw_error(error, "give a temporary file the name " + path);
}

void File::lock() {
  checked("lock", [&](std::error_code& error) { lock(error); });
}

bool File::try_lock() {
  return checked("lock", [&](std::error_code& error) { return try_lock(error); });
}

void File::unlock() {
  checked("unlock", [&](std::error_code& error) { unlock(error); });
}

void File::lock_shared() {
  checked("lock", [&](std::error_code& error) { lock_shared(error); });
}

bool File::try_lock_shared() {
  return checked("lock", [&](std::error_code& error) { return try_lock_shared(error); });
}

}  // namespace bight
