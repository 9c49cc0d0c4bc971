// SPDX-License-Identifier: Apache-2.0
#include "shards/pid_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include <bight/log.hpp>

namespace bight::detail {
namespace {

bool lock(int fd) noexcept {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(fd, F_SETLK, &whole) == 0;
}

/// Whether the path still (or again) leads to this open file.
bool is_at(int fd, const std::string& path) noexcept {
  struct stat here {};
  struct stat there {};
  return ::fstat(fd, &here) == 0 && ::lstat(path.c_str(), &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

std::string content_of(int fd) {
  std::array<char, 32> text{};
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  std::string content(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return content.substr(0, content.find_first_not_of("0123456789"));
}

[[noreturn]] void fail(int error, const std::string& path, const std::string& what) {
  throw std::system_error(error, std::generic_category(), "make pid file " + path + ": " + what);
}

}  // namespace

PidFile::PidFile(const std::string& path) {
  if (path.empty()) return;
  for (;;) {
    Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file) fail(errno, path, "open");
    if (!lock(file.get())) {
      if (errno != EACCES && errno != EAGAIN) fail(errno, path, "lock");
      const std::string holder = content_of(file.get());
      fail(EEXIST, path, "process " + (holder.empty() ? std::string("(unknown)") : holder) + " runs with it");
    }
    if (!is_at(file.get(), path)) continue;  // removed or renamed by its owner in between
    const std::string before = content_of(file.get());
    if (!before.empty()) log(LogLevel::info, "pid file " + path + " was left behind by process " + before);
    // The line first and the rest of an older one after it: who reads meanwhile finds a whole first line.
    const std::string line = std::to_string(::getpid()) + "\n";
    if (::pwrite(file.get(), line.data(), line.size(), 0) != static_cast<ssize_t>(line.size()) ||
        ::ftruncate(file.get(), static_cast<off_t>(line.size())) != 0) {
      const int error = errno;
      ::unlink(path.c_str());
      fail(error, path, "write");
    }
    file_ = std::move(file);
    path_ = path;
    own_ = path;
    return;
  }
}

PidFile::~PidFile() {
  if (file_ && is_at(file_.get(), path_)) ::unlink(path_.c_str());
}

void PidFile::rename_to(const std::string& path) noexcept {
  if (!file_ || path_ == path || !is_at(file_.get(), path_)) return;
  if (::rename(path_.c_str(), path.c_str()) == 0) {
    path_ = path;
  } else {
    log_warning("pid file " + path_ + " could not be renamed to " + path + ": " +
                std::generic_category().message(errno));
  }
}

void PidFile::step_aside() noexcept {
  try {
    rename_to(own_ + ".oldpid");
  } catch (...) {  // no memory for the name: the successor says that it can not have its own
  }
}

void PidFile::step_back() noexcept { rename_to(own_); }

void PidFile::forget() noexcept {
  path_.clear();
  file_.reset();
}

}  // namespace bight::detail
