// SPDX-License-Identifier: Apache-2.0
#include <bight/file.hpp>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <new>

#include <bight/check.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

#include "file_state.hpp"
#include "loop.hpp"
#include "perform.hpp"

namespace bight {

using detail::FileOp;
using detail::FileState;
using detail::FileUse;
using detail::FileVerb;

// --- The state -------------------------------------------------------------------------------------------------------

int detail::close_now(FileState& state) noexcept {
  BIGHT_CHECK(Loop::current() != nullptr, "a file was closed outside its loop: it must not outlive run()");
  state.watch.reset();
  FileOp op(FileVerb::close, state.fd);
  Loop::current()->engine().run_file_here(op);
  delete &state;
  return op.result;
}

void detail::mark_closed(FileState& state) noexcept {
  state.closed = true;
  if (state.watch) state.watch->close();
}

detail::CursorTurn::CursorTurn(FileState& state, bool wanted, std::error_code& error) noexcept {
  if (!wanted || state.waits()) return;
  try {
    state.cursor.lock();
    held_ = &state.cursor;
    if (state.closed) error = std::make_error_code(std::errc::bad_file_descriptor);
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  }
}

std::size_t detail::settle(FileOp& op, std::error_code& error) noexcept {
  const int result = perform(op);
  error = error_of(result);
  return static_cast<std::size_t>(std::max(result, 0));
}

bool detail::usable(const std::string& path, std::error_code& error) noexcept {
  error.clear();
  if (path.find('\0') == std::string::npos) return true;
  error = std::make_error_code(std::errc::invalid_argument);
  return false;
}

namespace {

using detail::settle;

constexpr Duration kFirstPause = std::chrono::milliseconds(1);

/// Sleeps, longer each time. Reports operation_canceled.
void pause(Duration& length, Duration most, std::error_code& error) noexcept {
  try {
    sleep_for(length);
  } catch (const Cancelled&) {
    error = std::make_error_code(std::errc::operation_canceled);
  }
  length = std::min(2 * length, most);
}

/// Offsets are 63 bits wide.
bool representable(std::uint64_t value, std::error_code& error) noexcept {
  if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return true;
  error = std::make_error_code(std::errc::invalid_argument);
  return false;
}

std::uint64_t flags_of(const OpenOptions& options) noexcept {
  const bool writes = options.write || options.append || options.temporary;
  // Never the terminal of the process, never inherited; non-blocking until it is known what it is.
  unsigned flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | static_cast<unsigned>(options.flags);
  flags |= static_cast<unsigned>(!writes ? O_RDONLY : options.read ? O_RDWR : O_WRONLY);
  const auto add = [&flags](bool wanted, int flag) { flags |= wanted ? static_cast<unsigned>(flag) : 0U; };
  add(options.append, O_APPEND);
  add(options.create || options.exclusive, O_CREAT);
  add(options.exclusive, O_EXCL);
  add(options.truncate, O_TRUNC);
  add(options.temporary, O_TMPFILE);
  add(options.directory, O_DIRECTORY);
  add(options.no_follow, O_NOFOLLOW);
  add(options.direct, O_DIRECT);
  add(options.sync, O_SYNC);
  return flags;
}

/// Whether it is a FIFO that has no reader yet: the kernel says so instead of waiting, as the opening is non-blocking.
/// A cancellation meanwhile takes the place of the opening's error.
bool lacks_reader(const FileOp& open, std::error_code& error) noexcept {
  if (open.result != -ENXIO || (open.flags & O_ACCMODE) != O_WRONLY) return false;
  struct ::statx status {};
  FileOp op(FileVerb::stat, open.fd);
  op.path = open.path;
  op.mode = STATX_TYPE;
  op.status = &status;
  const int result = detail::perform(op);
  if (result == -ECANCELED) error = detail::error_of(result);
  return result == 0 && (status.stx_mode & S_IFMT) == S_IFIFO;
}

void open_path(FileOp& op, std::error_code& error) noexcept {
  settle(op, error);
  for (Duration length = kFirstPause; error && lacks_reader(op, error);) {
    error.clear();
    pause(length, File::kLockPauseMax, error);
    if (error) return;
    op.state = detail::Op::State::idle;
    settle(op, error);
  }
}

/// The file that a descriptor becomes; without memory for that, the descriptor is closed.
FileState* make_state(int fd, ::mode_t type, std::uint64_t flags, const std::string& path,
                      std::error_code& error) noexcept {
  try {
    auto* state = new FileState(fd, type, path);
    state->appends = (flags & O_APPEND) != 0;
    state->cached = type == S_IFREG && (flags & O_DIRECT) == 0;
    state->bound.enter();
    return state;
  } catch (const std::bad_alloc&) {
    FileOp op(FileVerb::close, fd);
    detail::Loop::require().engine().run_file_here(op);
    error = std::make_error_code(std::errc::not_enough_memory);
    return nullptr;
  }
}

}  // namespace

// --- Opening and closing ---------------------------------------------------------------------------------------------

File File::open(const std::string& path, const OpenOptions& options, std::error_code& error) noexcept {
  if (!detail::usable(path, error)) return {};
  FileOp op(FileVerb::open);
  op.path = path.c_str();
  op.flags = flags_of(options);
  if ((op.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0) op.mode = options.mode;
  if (options.beneath) op.resolve = RESOLVE_BENEATH;
  if (options.in == nullptr) {
    open_path(op, error);
  } else {
    const FileUse directory(options.in->state_, error);
    if (!directory) return {};
    op.fd = directory->fd;
    open_path(op, error);
  }
  if (error) return {};
  return File(make_state(op.result, op.file_type, op.flags, path, error));
}

File File::open(const std::string& path, std::error_code& error) noexcept { return open(path, OpenOptions{}, error); }

File File::create(const std::string& path, std::error_code& error) noexcept {
  return open(path, {.write = true, .create = true, .truncate = true}, error);
}

File File::adopt(Fd&& fd, std::error_code& error) noexcept {
  error.clear();
  struct ::stat status {};
  if (::fstat(fd.get(), &status) != 0) {
    error = std::error_code(errno, std::generic_category());
    return {};
  }
  const ::mode_t type = status.st_mode & S_IFMT;
  if (type == S_IFIFO || type == S_IFSOCK || ::isatty(fd.get()) != 0) {
    error = std::make_error_code(std::errc::not_supported);
    return {};
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  return File(make_state(fd.release(), type, static_cast<std::uint64_t>(flags), {}, error));
}

Fd File::release() noexcept {
  if (state_ == nullptr) return {};
  BIGHT_CHECK(state_->users == 1, "a File was asked to release its descriptor while operations use it");
  const int fd = state_->fd;
  state_->watch.reset();
  delete std::exchange(state_, nullptr);
  return Fd(fd);
}

void File::drop() noexcept {
  FileState* state = std::exchange(state_, nullptr);
  if (state == nullptr) return;
  detail::mark_closed(*state);
  if (--state->users == 0) detail::close_now(*state);
}

void File::close(std::error_code& error) noexcept {
  error.clear();
  FileState* state = std::exchange(state_, nullptr);
  if (state == nullptr) return;
  state->bound.enter();
  detail::mark_closed(*state);
  if (--state->users != 0) return;
  state->watch.reset();
  FileOp op(FileVerb::close, state->fd);
  {
    const Shield shield;  // it has to be done, and only once: the number is free as soon as it has begun
    detail::perform(op);
  }
  delete state;
  error = detail::error_of(op.result);
}

int File::fd() const noexcept { return state_ != nullptr ? state_->fd : -1; }

const std::string& File::path() const noexcept {
  static const std::string none;
  return state_ != nullptr ? state_->path : none;
}

FileType File::type() const noexcept {
  return state_ != nullptr ? detail::file_type_of(state_->type) : FileType::unknown;
}

// --- The cursor ------------------------------------------------------------------------------------------------------

std::uint64_t File::seek(std::int64_t offset, SeekFrom from, std::error_code& error) noexcept {
  constexpr std::array<int, 5> kWhence{SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE};
  const FileUse use(state_, error);
  if (!use) return 0;
  const detail::CursorTurn turn(*use, true, error);
  if (error) return 0;
  FileOp op(FileVerb::seek, use->fd);
  op.offset = offset;
  op.flags = static_cast<std::uint64_t>(kWhence[static_cast<std::size_t>(from)]);
  settle(op, error);
  return error ? 0 : static_cast<std::uint64_t>(op.offset);
}

std::uint64_t File::tell(std::error_code& error) noexcept { return seek(0, SeekFrom::current, error); }

// --- The file --------------------------------------------------------------------------------------------------------

namespace {

void stat_open(FileState& state, unsigned mask, struct ::statx& status, std::error_code& error) noexcept {
  FileOp op(FileVerb::stat, state.fd);
  op.flags = AT_EMPTY_PATH;
  op.mode = mask;
  op.status = &status;
  settle(op, error);
}

void run_on(FileState* state, FileVerb verb, std::error_code& error) noexcept {
  const FileUse use(state, error);
  if (!use) return;
  FileOp op(verb, use->fd);
  settle(op, error);
}

void allocate_in(FileState* state, std::uint64_t offset, std::uint64_t length, unsigned flags,
                 std::error_code& error) noexcept {
  const FileUse use(state, error);
  if (!use || !representable(offset, error) || !representable(length, error)) return;
  FileOp op(FileVerb::allocate, use->fd);
  op.offset = static_cast<std::int64_t>(offset);
  op.length = static_cast<std::int64_t>(length);
  op.flags = flags;
  settle(op, error);
}

}  // namespace

FileStatus File::status(std::error_code& error) noexcept {
  const FileUse use(state_, error);
  if (!use) return {};
  struct ::statx status {};
  stat_open(*use, STATX_BASIC_STATS | STATX_BTIME, status, error);
  return error ? FileStatus{} : detail::to_file_status(status);
}

std::uint64_t File::size(std::error_code& error) noexcept { return status(error).size; }

void File::truncate(std::uint64_t size, std::error_code& error) noexcept {
  const FileUse use(state_, error);
  if (!use || !representable(size, error)) return;
  FileOp op(FileVerb::truncate, use->fd);
  op.length = static_cast<std::int64_t>(size);
  settle(op, error);
}

void File::sync(std::error_code& error) noexcept { run_on(state_, FileVerb::sync, error); }

void File::data_sync(std::error_code& error) noexcept { run_on(state_, FileVerb::data_sync, error); }

void File::allocate(std::uint64_t offset, std::uint64_t length, std::error_code& error) noexcept {
  allocate_in(state_, offset, length, 0, error);
}

void File::punch_hole(std::uint64_t offset, std::uint64_t length, std::error_code& error) noexcept {
  allocate_in(state_, offset, length, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, error);
}

void File::advise(FileAdvice advice, std::uint64_t offset, std::uint64_t length, std::error_code& error) noexcept {
  constexpr std::array<int, 6> kAdvice{POSIX_FADV_NORMAL,   POSIX_FADV_RANDOM,   POSIX_FADV_SEQUENTIAL,
                                       POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE};
  const FileUse use(state_, error);
  if (!use || !representable(offset, error) || !representable(length, error)) return;
  FileOp op(FileVerb::advise, use->fd);
  op.offset = static_cast<std::int64_t>(offset);
  op.length = static_cast<std::int64_t>(length);
  op.flags = static_cast<std::uint64_t>(kAdvice[static_cast<std::size_t>(advice)]);
  settle(op, error);
}

void File::set_mode(unsigned mode, std::error_code& error) noexcept {
  const FileUse use(state_, error);
  if (!use) return;
  FileOp op(FileVerb::set_mode, use->fd);
  op.mode = mode;
  settle(op, error);
}

DirectAlignment File::direct_alignment(std::error_code& error) noexcept {
  constexpr std::size_t kPage = 4096;  // suits every device that there is, where the kernel (before 6.1) does not say
  const FileUse use(state_, error);
  if (!use) return {};
#ifdef STATX_DIOALIGN
  struct ::statx status {};
  stat_open(*use, STATX_DIOALIGN, status, error);
  if (error) return {};
  if ((status.stx_mask & STATX_DIOALIGN) != 0) return {status.stx_dio_mem_align, status.stx_dio_offset_align};
#endif
  return {kPage, kPage};
}

void File::give_name(const std::string& path, std::error_code& error) noexcept {
  const FileUse use(state_, error);
  if (!use || !detail::usable(path, error)) return;
  // linkat with AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH: open(2), O_TMPFILE.
  std::array<char, 32> self{};
  std::snprintf(self.data(), self.size(), "/proc/self/fd/%d", use->fd);
  FileOp op(FileVerb::link);
  op.path = self.data();
  op.other_path = path.c_str();
  op.flags = AT_SYMLINK_FOLLOW;
  settle(op, error);
}

// --- Locks -----------------------------------------------------------------------------------------------------------

namespace {

/// Whether it has been locked; false also with an error.
bool try_flock(FileState& state, int how, std::error_code& error) noexcept {
  FileOp op(FileVerb::lock, state.fd);
  op.flags = static_cast<std::uint64_t>(how);
  settle(op, error);
  if (error != std::errc::resource_unavailable_try_again) return !error;
  error.clear();
  return false;
}

void flock_waiting(FileState* state, int how, std::error_code& error) noexcept {
  const FileUse use(state, error);
  if (!use) return;
  for (Duration length = kFirstPause; !try_flock(*use, how, error) && !error;) {
    pause(length, File::kLockPauseMax, error);
    if (use->closed && !error) error = std::make_error_code(std::errc::bad_file_descriptor);
    if (error) return;
  }
}

bool flock_now(FileState* state, int how, std::error_code& error) noexcept {
  const FileUse use(state, error);
  return use && try_flock(*use, how, error);
}

}  // namespace

void File::lock(std::error_code& error) noexcept { flock_waiting(state_, LOCK_EX, error); }
void File::lock_shared(std::error_code& error) noexcept { flock_waiting(state_, LOCK_SH, error); }
bool File::try_lock(std::error_code& error) noexcept { return flock_now(state_, LOCK_EX, error); }
bool File::try_lock_shared(std::error_code& error) noexcept { return flock_now(state_, LOCK_SH, error); }

void File::unlock(std::error_code& error) noexcept {
  const FileUse use(state_, error);
  if (!use) return;
  // Never waits, and has to work for the cancelled, too.
  FileOp op(FileVerb::lock, use->fd);
  op.flags = LOCK_UN;
  detail::Loop::require().engine().run_file_here(op);
  error = detail::error_of(op.result);
}

}  // namespace bight
