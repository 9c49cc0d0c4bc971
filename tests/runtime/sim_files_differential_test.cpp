// SPDX-License-Identifier: Apache-2.0
// The simulated file system against the real one: the same random calls on both have the same results, errors included,
// and leave the same files behind.

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/testing.hpp>

#include "build.hpp"
#include "engine/sim_files.hpp"

namespace {

using bight::detail::SimCore;
using bight::detail::SimDescriptors;
using bight::detail::SimFiles;
using bight::detail::SimRandom;

/// What a call has said: its result or -errno, and what it has brought.
struct Outcome {
  long result = 0;
  std::string detail{};

  bool operator==(const Outcome&) const = default;
};

std::string printed(const Outcome& outcome) {
  return std::to_string(outcome.result) +
         (outcome.result < 0 ? std::string(" ") + strerror(int(-outcome.result)) : "") + " " +
         std::to_string(outcome.detail.size()) + ":" + outcome.detail.substr(0, 200);
}

/// The calls, with descriptors as they are and errors as -errno.
class System {
 public:
  virtual ~System() = default;
  virtual long open(int fd, const char* path, int flags, mode_t mode) = 0;
  virtual long close(int fd) = 0;
  virtual long read(int fd, std::vector<iovec> pieces, long offset) = 0;
  virtual long write(int fd, std::vector<iovec> pieces, long offset) = 0;
  virtual long seek(int fd, long offset, int whence) = 0;
  virtual long truncate(int fd, long length) = 0;
  virtual long allocate(int fd, int mode, long offset, long length) = 0;
  virtual long lock(int fd, int operation) = 0;
  virtual long copy(int in, long from, int out, long to, long length) = 0;
  virtual long send_file(int out, int in, long offset, long length) = 0;
  virtual long stat(int fd, const char* path, int flags, struct statx& status) = 0;
  virtual long set_mode(int fd, const char* path, mode_t mode) = 0;
  virtual long set_times(int fd, const char* path, const timespec* times, int flags) = 0;
  virtual long rename(int fd, const char* path, int other_fd, const char* other_path, unsigned flags) = 0;
  virtual long unlink(int fd, const char* path, int flags) = 0;
  virtual long make_dir(int fd, const char* path, mode_t mode) = 0;
  virtual long symlink(const char* target, int fd, const char* path) = 0;
  virtual long link(int fd, const char* path, int other_fd, const char* other_path, int flags) = 0;
  virtual long read_link(int fd, const char* path, char* into, std::size_t size) = 0;
  virtual long read_dir(int fd, std::byte* into, std::size_t size) = 0;
};

long checked(long result) { return result < 0 ? -errno : result; }

class Linux final : public System {
 public:
  long open(int fd, const char* path, int flags, mode_t mode) override {
    return checked(::openat(fd, path, flags | O_CLOEXEC, mode));
  }
  long close(int fd) override { return checked(::close(fd)); }
  long read(int fd, std::vector<iovec> pieces, long offset) override {
    return checked(::preadv2(fd, pieces.data(), int(pieces.size()), offset, 0));
  }
  long write(int fd, std::vector<iovec> pieces, long offset) override {
    return checked(::pwritev2(fd, pieces.data(), int(pieces.size()), offset, 0));
  }
  long seek(int fd, long offset, int whence) override { return checked(::lseek(fd, offset, whence)); }
  long truncate(int fd, long length) override { return checked(::ftruncate(fd, length)); }
  long allocate(int fd, int mode, long offset, long length) override {
    return checked(::fallocate(fd, mode, offset, length));
  }
  long lock(int fd, int operation) override { return checked(::flock(fd, operation | LOCK_NB)); }
  long copy(int in, long from, int out, long to, long length) override {
    return checked(
        ::copy_file_range(in, from == -1 ? nullptr : &from, out, to == -1 ? nullptr : &to, std::size_t(length), 0));
  }
  long send_file(int out, int in, long offset, long length) override {
    return checked(::syscall(SYS_sendfile, out, in, offset == -1 ? nullptr : &offset, length));
  }
  long stat(int fd, const char* path, int flags, struct statx& status) override {
    return checked(::statx(fd, path, flags, STATX_BASIC_STATS, &status));
  }
  long set_mode(int fd, const char* path, mode_t mode) override { return checked(::fchmodat(fd, path, mode, 0)); }
  long set_times(int fd, const char* path, const timespec* times, int flags) override {
    return checked(::utimensat(fd, path, times, flags));
  }
  long rename(int fd, const char* path, int other_fd, const char* other_path, unsigned flags) override {
    return checked(::renameat2(fd, path, other_fd, other_path, flags));
  }
  long unlink(int fd, const char* path, int flags) override { return checked(::unlinkat(fd, path, flags)); }
  long make_dir(int fd, const char* path, mode_t mode) override { return checked(::mkdirat(fd, path, mode)); }
  long symlink(const char* target, int fd, const char* path) override { return checked(::symlinkat(target, fd, path)); }
  long link(int fd, const char* path, int other_fd, const char* other_path, int flags) override {
    return checked(::linkat(fd, path, other_fd, other_path, flags));
  }
  long read_link(int fd, const char* path, char* into, std::size_t size) override {
    return checked(::readlinkat(fd, path, into, size));
  }
  long read_dir(int fd, std::byte* into, std::size_t size) override {
    return checked(::syscall(SYS_getdents64, fd, into, size));
  }
};

class Simulated final : public System {
 public:
  explicit Simulated(std::uint64_t seed) : core_({.seed = seed}), files_(core_, descriptors_) {}

  SimFiles& files() { return files_; }

  long open(int fd, const char* path, int flags, mode_t mode) override { return files_.open(fd, path, flags, mode, 0); }
  long close(int fd) override { return files_.close(fd); }
  long read(int fd, std::vector<iovec> pieces, long offset) override { return files_.read(fd, pieces, offset, 0); }
  long write(int fd, std::vector<iovec> pieces, long offset) override { return files_.write(fd, pieces, offset, 0); }
  long seek(int fd, long offset, int whence) override { return files_.seek(fd, offset, whence); }
  long truncate(int fd, long length) override { return files_.truncate(fd, length); }
  long allocate(int fd, int mode, long offset, long length) override {
    return files_.allocate(fd, mode, offset, length);
  }
  long lock(int fd, int operation) override { return files_.lock(fd, operation); }
  long copy(int in, long from, int out, long to, long length) override {
    return files_.copy_range(in, from, out, to, length);
  }
  long send_file(int out, int in, long offset, long length) override {
    return files_.send_file(out, in, offset, length);
  }
  long stat(int fd, const char* path, int flags, struct statx& status) override {
    return files_.stat(fd, path, flags, status);
  }
  long set_mode(int fd, const char* path, mode_t mode) override { return files_.set_mode(fd, path, mode); }
  long set_times(int fd, const char* path, const timespec* times, int flags) override {
    return files_.set_times(fd, path, times, flags);
  }
  long rename(int fd, const char* path, int other_fd, const char* other_path, unsigned flags) override {
    return files_.rename(fd, path, other_fd, other_path, flags);
  }
  long unlink(int fd, const char* path, int flags) override { return files_.unlink(fd, path, flags); }
  long make_dir(int fd, const char* path, mode_t mode) override { return files_.make_dir(fd, path, mode); }
  long symlink(const char* target, int fd, const char* path) override { return files_.symlink(target, fd, path); }
  long link(int fd, const char* path, int other_fd, const char* other_path, int flags) override {
    return files_.link(fd, path, other_fd, other_path, flags);
  }
  long read_link(int fd, const char* path, char* into, std::size_t size) override {
    return files_.read_link(fd, path, into, size);
  }
  long read_dir(int fd, std::byte* into, std::size_t size) override { return files_.read_dir(fd, into, size); }

 private:
  SimCore core_;
  SimDescriptors descriptors_;
  SimFiles files_;
};

// --- Both at once ----------------------------------------------------------------------------------------------------

constexpr int kDeep = 80;  // further than paths climb

/// One random history on two systems.
class Twins {
 public:
  Twins(std::uint64_t seed, bool on_tmpfs) : random_(seed), sim_(seed), on_tmpfs_(on_tmpfs) {
    const std::string base = sim_base();
    for (std::size_t slash = base.find('/', 1); slash != std::string::npos; slash = base.find('/', slash + 1)) {
      sim_.make_dir(AT_FDCWD, base.substr(0, slash).c_str(), 0755);
    }
    sim_.make_dir(AT_FDCWD, base.c_str(), 0755);
    sim_.files().change_dir(base.c_str());
  }
  ~Twins() {
    for (const auto& [real, simulated] : open_) ::close(real);
  }

  /// One call. False: they disagree.
  [[nodiscard]] bool step();
  [[nodiscard]] const std::string& log() const { return log_; }

  /// What they have is the same.
  [[nodiscard]] bool compare_trees() { return compare_directory("."); }

 private:
  struct Both {
    int real;
    int simulated;
  };

  static std::string sim_base() {
    std::string base = "/tmp/top";
    for (int level = 0; level < kDeep; ++level) base += "/deep";
    return base;
  }

  // Choices.

  std::size_t below(std::size_t limit) { return random_.between(0, limit - 1); }
  bool one_in(std::size_t many) { return below(many) == 0; }
  template <class T>
  T any(std::initializer_list<T> of) {
    return of.begin()[below(of.size())];
  }

  std::string name() {
    if (one_in(200)) return std::string(255 + below(2), 'n');
    return any<const char*>({"a", "b", "c", "d", "e", "f"});
  }
  std::string path(const Both& from) {
    const bool climbs = from.real == AT_FDCWD;
    std::string text;
    for (std::size_t left = below(3); left-- > 0;) {
      const std::size_t kind = climbs ? below(12) : 1 + below(11);
      text += kind == 0 ? ".." : kind == 1 ? "." : name();
      text += one_in(20) ? "//" : "/";
    }
    const std::size_t kind = climbs ? below(30) : 1 + below(29);
    text += kind == 0 ? ".." : kind == 1 ? "." : kind == 2 ? "" : name();
    if (one_in(12) && !text.empty()) text += "/";
    return text;
  }
  std::string target() {
    std::string text = one_in(6) ? "../" : "";
    if (one_in(4)) text += name() + "/";
    return one_in(20) ? text + "." : text + name() + (one_in(15) ? "/" : "");
  }
  Both directory() {
    if (open_.empty() || !one_in(4)) return one_in(200) ? Both{-1, -1} : Both{AT_FDCWD, AT_FDCWD};
    return open_[below(open_.size())];
  }
  Both file() { return open_.empty() || one_in(100) ? Both{-1, -1} : open_[below(open_.size())]; }
  long offset() { return one_in(50) ? -2 : one_in(3) ? -1 : long(below(one_in(5) ? 70'000 : 9'000)); }

  // Calls.

  template <class Call>
  bool both(const std::string& what, Call&& call) {
    const Outcome expected = call(static_cast<System&>(real_), true);
    const Outcome got = call(static_cast<System&>(sim_), false);
    log_ += what + " = " + printed(expected) + "\n";
    if (expected == got) return true;
    log_ += "   but simulated: " + printed(got) + "\n";
    return false;
  }
  static int pick(const Both& which, bool real) { return real ? which.real : which.simulated; }

  bool open_file();
  bool close_file();
  bool transfer(bool reads);
  bool on_descriptor();
  bool copy();
  bool on_path();
  bool on_two_paths();
  bool stat_of(const std::string& what, Both at, const std::string& where, int flags);
  bool read_directory(const std::string& what, Both at);
  bool compare_directory(const std::string& where);
  bool compare_file(const std::string& where);
  static Outcome status(System& system, int fd, const char* where, int flags, std::string* type);
  static Outcome list(System& system, int fd, std::vector<std::string>* names);

  SimRandom random_;
  Linux real_;
  Simulated sim_;
  bool on_tmpfs_;
  std::vector<Both> open_;
  std::string log_;
};

bool Twins::step() {
  const std::size_t kind = below(100);
  if (kind < 20) return open_file();
  if (kind < 28) return close_file();
  if (kind < 38) return transfer(true);
  if (kind < 52) return transfer(false);
  if (kind < 60) return on_descriptor();
  if (kind < 64) return copy();
  if (kind < 84) return on_path();
  return on_two_paths();
}

bool Twins::open_file() {
  int flags = any({O_RDONLY, O_WRONLY, O_RDWR, O_RDWR});
  if (one_in(2)) flags |= O_CREAT;
  if (one_in(6)) flags |= O_EXCL;
  if (one_in(8)) flags |= O_TRUNC;
  if (one_in(6)) flags |= O_APPEND;
  if (one_in(8)) flags |= O_NOFOLLOW;
  if (one_in(4) && (flags & O_CREAT) == 0) flags |= O_DIRECTORY;
  if (one_in(20)) flags |= O_PATH;
  if (one_in(20) && (flags & O_CREAT) == 0) flags |= O_TMPFILE;
  if ((flags & O_CREAT) == 0 && (flags & O_TMPFILE) != O_TMPFILE) flags &= ~O_EXCL;  // has no meaning
  if (open_.size() >= 10 && !close_file()) return false;
  const Both at = directory();
  const std::string where = one_in(100) ? "" : path(at);
  Both opened{-1, -1};
  const std::string what = "open " + std::to_string(at.simulated) + " " + where + " 0" + std::to_string(flags);
  const bool same = both(what, [&](System& system, bool real) {
    const long fd = system.open(pick(at, real), where.c_str(), flags, 0700);
    if (fd >= 0) (real ? opened.real : opened.simulated) = int(fd);
    return Outcome{fd < 0 ? fd : 0};
  });
  if (opened.real >= 0) open_.push_back(opened);
  return same;
}

bool Twins::close_file() {
  if (open_.empty()) return true;
  const std::size_t which = below(open_.size());
  const Both closed = open_[which];
  open_.erase(open_.begin() + std::ptrdiff_t(which));
  return both("close " + std::to_string(closed.simulated),
              [&](System& system, bool real) { return Outcome{system.close(pick(closed, real))}; });
}

bool Twins::transfer(bool reads) {
  const Both at = file();
  const long where = offset();
  std::vector<std::size_t> sizes(1 + below(3));
  for (std::size_t& size : sizes) size = one_in(10) ? 0 : one_in(4) ? below(9000) : below(600);
  const char letter = char('a' + below(26));
  const std::string what = (reads ? "read " : "write ") + std::to_string(at.simulated) + " at " + std::to_string(where);
  return both(what, [&](System& system, bool real) {
    std::vector<std::string> buffers;
    for (const std::size_t size : sizes) buffers.emplace_back(size, reads ? '?' : letter);
    std::vector<iovec> pieces;
    for (std::string& buffer : buffers) pieces.push_back({buffer.data(), buffer.size()});
    const int fd = pick(at, real);
    const long result = reads ? system.read(fd, pieces, where) : system.write(fd, pieces, where);
    Outcome outcome{result};
    for (const std::string& buffer : buffers) outcome.detail += buffer;
    return outcome;
  });
}

bool Twins::on_descriptor() {
  const Both at = file();
  const std::string fd = std::to_string(at.simulated);
  const long where = long(below(20'000)) - (one_in(10) ? 20'000 : 0);
  const long length = long(below(20'000)) - (one_in(20) ? 20'000 : 0);
  switch (below(5)) {
    case 0: {
      const int whence = any({SEEK_SET, SEEK_CUR, SEEK_END, 17});
      struct statx known {};
      const bool regular = ::statx(at.real, "", AT_EMPTY_PATH, STATX_TYPE, &known) != 0 || S_ISREG(known.stx_mode);
      if (!regular) return true;  // what a place in a directory is, is for the file system to say
      return both("seek " + fd + " " + std::to_string(where) + " " + std::to_string(whence),
                  [&](System& system, bool real) { return Outcome{system.seek(pick(at, real), where, whence)}; });
    }
    case 1:
      return both("truncate " + fd + " " + std::to_string(length),
                  [&](System& system, bool real) { return Outcome{system.truncate(pick(at, real), length)}; });
    case 2: {
      int mode = any({0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
                      FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE});
      if (on_tmpfs_) mode &= ~FALLOC_FL_ZERO_RANGE;
      return both(
          "allocate " + fd + " " + std::to_string(mode) + " " + std::to_string(where),
          [&](System& system, bool real) { return Outcome{system.allocate(pick(at, real), mode, where, length)}; });
    }
    case 3: {
      const int operation = any({LOCK_SH, LOCK_EX, LOCK_UN, LOCK_SH | LOCK_EX});
      return both("lock " + fd + " " + std::to_string(operation),
                  [&](System& system, bool real) { return Outcome{system.lock(pick(at, real), operation)}; });
    }
    default: return read_directory("list " + fd, at);
  }
}

bool Twins::copy() {
  const Both in = file();
  const Both out = file();
  const long from = offset();
  const long to = offset();
  const long length = long(below(12'000));
  const std::string what = std::to_string(in.simulated) + " at " + std::to_string(from) + " to " +
                           std::to_string(out.simulated) + " at " + std::to_string(to) + " " + std::to_string(length);
  return both("copy " + what, [&](System& system, bool real) {
    return Outcome{system.copy(pick(in, real), from, pick(out, real), to, length)};
  });
}

bool Twins::on_path() {
  const Both at = directory();
  const std::string where = one_in(100) ? "" : path(at);
  const std::string text = std::to_string(at.simulated) + " " + where;
  switch (below(7)) {
    case 0:
    case 1:
      return both("mkdir " + text, [&](System& system, bool real) {
        return Outcome{system.make_dir(pick(at, real), where.c_str(), 0755)};
      });
    case 2: {
      const int flags = any({0, AT_REMOVEDIR, 0x8000});
      return both("unlink " + text + " " + std::to_string(flags), [&](System& system, bool real) {
        return Outcome{system.unlink(pick(at, real), where.c_str(), flags)};
      });
    }
    case 3: {
      const std::string to = one_in(100) ? "" : target();
      return both("symlink " + text + " -> " + to, [&](System& system, bool real) {
        return Outcome{system.symlink(to.c_str(), pick(at, real), where.c_str())};
      });
    }
    case 4:
      return both("readlink " + text, [&](System& system, bool real) {
        char into[16] = {};
        const long result = system.read_link(pick(at, real), where.c_str(), into, sizeof into);
        return Outcome{result, std::string(into, std::size_t(std::max(0L, result)))};
      });
    case 5: {
      const mode_t mode = any<mode_t>({0700, 0755, 0711, 07777});
      return both("chmod " + text, [&](System& system, bool real) {
        return Outcome{system.set_mode(pick(at, real), where.empty() ? "." : where.c_str(), mode)};
      });
    }
    default: return stat_of("stat " + text, at, where, any({0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH}));
  }
}

bool Twins::on_two_paths() {
  const Both at = directory();
  const Both to = directory();
  const std::string where = path(at);
  const std::string other = path(to);
  const std::string text =
      std::to_string(at.simulated) + " " + where + " -> " + std::to_string(to.simulated) + " " + other;
  if (one_in(3)) {
    const int flags = any({0, AT_SYMLINK_FOLLOW, 0x40});
    return both("link " + text + " " + std::to_string(flags), [&](System& system, bool real) {
      return Outcome{system.link(pick(at, real), where.c_str(), pick(to, real), other.c_str(), flags)};
    });
  }
  const unsigned flags =
      any<unsigned>({0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE});
  return both("rename " + text + " " + std::to_string(flags), [&](System& system, bool real) {
    return Outcome{system.rename(pick(at, real), where.c_str(), pick(to, real), other.c_str(), flags)};
  });
}

// --- Looking ---------------------------------------------------------------------------------------------------------

Outcome Twins::status(System& system, int fd, const char* where, int flags, std::string* type) {
  struct statx found {};
  Outcome outcome{system.stat(fd, where, flags, found)};
  if (outcome.result < 0) return outcome;
  const mode_t kind = found.stx_mode & S_IFMT;
  outcome.detail = std::to_string(found.stx_mode);
  if (kind != S_IFDIR) {  // of directories these are the file system's own affair
    outcome.detail += " links " + std::to_string(found.stx_nlink) + " size " + std::to_string(found.stx_size);
  }
  if (type != nullptr) *type = kind == S_IFDIR ? "directory" : kind == S_IFREG ? "file" : "other";
  return outcome;
}

bool Twins::stat_of(const std::string& what, Both at, const std::string& where, int flags) {
  return both(what + " " + std::to_string(flags),
              [&](System& system, bool real) { return status(system, pick(at, real), where.c_str(), flags, nullptr); });
}

/// From the start, in small pieces.
Outcome Twins::list(System& system, int fd, std::vector<std::string>* names) {
  std::vector<std::string> found;
  alignas(8) std::byte buffer[600];
  system.seek(fd, 0, SEEK_SET);
  long result = 0;
  while ((result = system.read_dir(fd, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < result;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      found.push_back(std::string(entry->d_name) + ":" + std::to_string(entry->d_type));
      if (names != nullptr && entry->d_name != std::string(".") && entry->d_name != std::string("..")) {
        names->push_back(entry->d_name);
      }
      at += entry->d_reclen;
    }
  }
  system.seek(fd, 0, SEEK_SET);
  std::sort(found.begin(), found.end());
  Outcome outcome{result};
  for (const std::string& each : found) outcome.detail += each + " ";
  return outcome;
}

bool Twins::read_directory(const std::string& what, Both at) {
  struct statx known {};
  const bool directory = ::statx(at.real, "", AT_EMPTY_PATH, STATX_TYPE, &known) == 0 && S_ISDIR(known.stx_mode);
  if (!directory) {
    return both(what, [&](System& system, bool real) {
      alignas(8) std::byte buffer[600];
      return Outcome{system.read_dir(pick(at, real), buffer, sizeof buffer)};
    });
  }
  return both(what, [&](System& system, bool real) { return list(system, pick(at, real), nullptr); });
}

bool Twins::compare_directory(const std::string& where) {
  std::vector<std::string> names;
  const bool same = both("compare " + where, [&](System& system, bool real) {
    const long fd = system.open(AT_FDCWD, where.c_str(), O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return Outcome{fd};
    const Outcome listed = list(system, int(fd), real ? &names : nullptr);
    system.close(int(fd));
    return listed;
  });
  if (!same) return false;
  for (const std::string& each : names) {
    const std::string inner = where + "/" + each;
    std::string type;
    const bool alike = both("compare " + inner, [&](System& system, bool real) {
      return status(system, AT_FDCWD, inner.c_str(), AT_SYMLINK_NOFOLLOW, real ? &type : nullptr);
    });
    if (!alike) return false;
    if (type == "directory" && !compare_directory(inner)) return false;
    if (type == "file" && !compare_file(inner)) return false;
  }
  return true;
}

bool Twins::compare_file(const std::string& where) {
  return both("compare bytes of " + where, [&](System& system, bool) {
    const long fd = system.open(AT_FDCWD, where.c_str(), O_RDONLY, 0);
    std::string bytes(200'000, '?');
    const long result = system.read(int(fd), {{bytes.data(), bytes.size()}}, 0);
    system.close(int(fd));
    return Outcome{result, bytes.substr(0, std::size_t(std::max(0L, result)))};
  });
}

// --- The test --------------------------------------------------------------------------------------------------------

/// The current directory of the test: deep inside one of its own that goes with it.
class DeepDirectory {
 public:
  explicit DeepDirectory(const std::filesystem::path& parent) : before_(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
    std::string name = parent / "bight-sim-files-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    top_ = name;
    for (int level = 0; level < kDeep; ++level) name += "/deep";
    std::filesystem::create_directories(name);
    std::filesystem::current_path(name);
  }
  DeepDirectory(const DeepDirectory&) = delete;
  DeepDirectory& operator=(const DeepDirectory&) = delete;
  ~DeepDirectory() {
    [[maybe_unused]] const int failed = ::fchdir(before_);
    ::close(before_);
    std::filesystem::remove_all(top_);
  }

 private:
  int before_;
  std::string top_;
};

/// Of those whose errors have been compared; an overlay, say, has some of its own.
bool well_known(long type) { return type == EXT4_SUPER_MAGIC || type == TMPFS_MAGIC; }

/// Mostly in memory, for a real disk is slow with files that are replaced: it writes them at once.
std::filesystem::path parent_for(std::uint64_t seed) {
  const char* memory = "/dev/shm";
  if (seed % 16 == 0 || ::access(memory, W_OK | X_OK) != 0) return std::filesystem::temp_directory_path();
  return memory;
}

void expect_the_same(std::uint64_t seed, int calls) {
  const DeepDirectory directory(parent_for(seed));
  struct statfs system {};
  ASSERT_EQ(::statfs(".", &system), 0);
  if (!well_known(system.f_type)) GTEST_SKIP() << "an unknown file system: 0x" << std::hex << system.f_type;
  Twins twins(seed, system.f_type == TMPFS_MAGIC);
  bool same = true;
  for (int call = 0; same && call < calls; ++call) same = twins.step();
  same = same && twins.compare_trees();
  ASSERT_TRUE(same) << bight::testing::replay_hint(seed) << "\n" << twins.log();
}

TEST(SimFilesDifferential, SimulatedFilesAreAsRealOnes) {
  for (const std::uint64_t seed : bight::testing::seeds(std::size_t(bight::test::this_many(200, 50)))) {
    expect_the_same(seed, 300);
    if (HasFatalFailure() || IsSkipped()) return;
  }
}

TEST(SlowSimFilesDifferential, SimulatedFilesAreAsRealOnes) {
  for (const std::uint64_t seed : bight::testing::seeds(std::size_t(bight::test::this_many(4'000, 400)), 1'000'000)) {
    expect_the_same(seed, 500);
    if (HasFatalFailure() || IsSkipped()) return;
  }
}

}  // namespace
