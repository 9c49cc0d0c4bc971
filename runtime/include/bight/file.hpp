// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Files that no fiber blocks the loop with.
///
///     bight::File log = bight::File::open("/var/log/app.log", {.append = true, .create = true});
///     log.write_all("started\n");
///     log.data_sync();
///
/// Whole files, names and directories: filesystem.hpp. Lines: line_reader.hpp. Pipes and terminals: stream.hpp.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <bight/fd.hpp>
#include <bight/file_status.hpp>

struct iovec;

namespace bight {

class File;

namespace detail {
struct FileState;
struct FileAccess;
}  // namespace detail

/// How File::open opens. With none of read, write and append it is for reading.
struct OpenOptions {
  bool read = false;
  bool write = false;
  bool append = false;     ///< every write goes to the end, wherever that is then; implies write
  bool create = false;     ///< if there is none
  bool exclusive = false;  ///< there must be none: file_exists otherwise; implies create
  bool truncate = false;   ///< what it has is dropped
  bool temporary = false;  ///< a file without a name in the directory that the path names; see File::give_name
  bool directory = false;  ///< it must be one: not_a_directory otherwise
  bool no_follow =
      false;             ///< the path's last part must not be a symbolic link: too_many_symbolic_link_levels otherwise
  bool direct = false;   ///< past the page cache: see File::direct_alignment
  bool sync = false;     ///< a write is over when it would survive a loss of power
  unsigned mode = 0666;  ///< permissions of a file that is created, less the process's umask
  const File* in = nullptr;  ///< the directory that a relative path starts from; the working directory otherwise
  bool beneath = false;      ///< the path must not lead out of that directory, by no link either: cross_device_link
  int flags = 0;             ///< more of O_…: open(2)
};

enum class SeekFrom : unsigned char { start, current, end, next_data, next_hole };

/// What a program is going to do with a part of a file: posix_fadvise(2).
enum class FileAdvice : unsigned char { normal, random, sequential, will_need, will_not_need, once };

/// An open file, directory or block device. All verbs wait, if they have to, by parking the fiber: on io_uring the
/// kernel carries them out, on epoll threads of OffloadPool::shared() do, in a simulated world they act on files in
/// memory.
///
/// Every verb has a form that throws std::system_error, with a text that says what was attempted on which file, and one
/// with a trailing std::error_code& that does not. A cancelled fiber: the operation that has not begun never will, and
/// Cancelled is thrown (operation_canceled reported). One that has begun is waited for, as its buffers are in use, and
/// what it did is reported as success. So with_timeout around a disk that does not answer ends when the disk does.
///
/// Move-only, owns the descriptor, which is always close-on-exec. Has to stay where it is until the calls under way on
/// it have returned; to end it meanwhile, close() it. Belongs to the loop that used it first and must not
/// outlive run(). Any number of fibers may use it at a time: operations at an offset run side by side, those at the
/// cursor one after the other, first come, first served (read_exactly and write_all as one, so that records are not
/// mixed). The cursor is the kernel's, part of the open file: who has inherited the descriptor, or gets it by
/// release(), goes on where this left off.
///
/// What may keep a reader waiting without end, as a FIFO or a terminal does, is waited for without a thread, too, by
/// one reader and one writer at a time (device_or_resource_busy otherwise). Opening a FIFO for reading does not wait
/// for a writer; the first read does.
class File {
 public:
  File() noexcept = default;
  File(File&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  File& operator=(File&& other) noexcept {
    File(std::move(other)).swap(*this);
    return *this;
  }
  /// Closes at once, on the loop's thread, which may take time where the file's last name has been removed or it lies
  /// on a network; and what writing it back had to report (over a network, mostly) is lost. close() has neither flaw.
  ~File() { drop(); }
  void swap(File& other) noexcept { std::swap(state_, other.state_); }

  [[nodiscard]] static File open(const std::string& path, const OpenOptions& options = {});
  [[nodiscard]] static File open(const std::string& path, std::error_code& error) noexcept;
  [[nodiscard]] static File open(const std::string& path, const OpenOptions& options, std::error_code& error) noexcept;
  /// For writing, empty, made if there is none.
  [[nodiscard]] static File create(const std::string& path);
  [[nodiscard]] static File create(const std::string& path, std::error_code& error) noexcept;

  /// Takes over a descriptor of a file, directory or block device, whose flags it leaves alone. Pipes, sockets and
  /// terminals are not_supported: see Stream and Socket. `error` leaves the descriptor with the caller.
  [[nodiscard]] static File adopt(Fd&& fd);
  [[nodiscard]] static File adopt(Fd&& fd, std::error_code& error) noexcept;
  /// Gives the descriptor away. No operation may be under way (aborts with a sentence).
  [[nodiscard]] Fd release() noexcept;

  [[nodiscard]] bool is_open() const noexcept { return state_ != nullptr; }
  explicit operator bool() const noexcept { return state_ != nullptr; }
  [[nodiscard]] int fd() const noexcept;
  /// As it was opened by; empty for an adopted descriptor.
  [[nodiscard]] const std::string& path() const noexcept;
  [[nodiscard]] FileType type() const noexcept;

  /// Operations under way finish, on the open file, and the last of them closes the descriptor; those that wait for
  /// the cursor, and later ones, report bad_file_descriptor. If there is none under way this waits until it is closed,
  /// and reports what close(2) does: the descriptor is closed even then. Harmless when closed.
  void close();
  void close(std::error_code& error) noexcept;

  // Reading. 0: the end of the file, or no room in the buffer.

  std::size_t read(std::span<std::byte> buffer);
  std::size_t read(std::span<std::byte> buffer, std::error_code& error) noexcept;
  std::size_t read_at(std::span<std::byte> buffer, std::uint64_t offset);
  std::size_t read_at(std::span<std::byte> buffer, std::uint64_t offset, std::error_code& error) noexcept;
  /// Into several buffers, in their order. The first kPiecesMax of them.
  std::size_t read(std::span<const std::span<std::byte>> buffers);
  std::size_t read(std::span<const std::span<std::byte>> buffers, std::error_code& error) noexcept;
  std::size_t read_at(std::span<const std::span<std::byte>> buffers, std::uint64_t offset);
  std::size_t read_at(std::span<const std::span<std::byte>> buffers, std::uint64_t offset,
                      std::error_code& error) noexcept;
  /// Fills the buffer. The end of the file before that is no_message_available ("end of file after N of M bytes" in the
  /// text). Returns how much it has read, in any case.
  std::size_t read_exactly(std::span<std::byte> buffer);
  std::size_t read_exactly(std::span<std::byte> buffer, std::error_code& error) noexcept;
  std::size_t read_exactly_at(std::span<std::byte> buffer, std::uint64_t offset);
  std::size_t read_exactly_at(std::span<std::byte> buffer, std::uint64_t offset, std::error_code& error) noexcept;

  // Writing. Some of it, at least one byte; write_all: all of it. With OpenOptions::append, at the end, whatever the
  // offset.

  std::size_t write(std::span<const std::byte> data);
  std::size_t write(std::span<const std::byte> data, std::error_code& error) noexcept;
  std::size_t write_at(std::span<const std::byte> data, std::uint64_t offset);
  std::size_t write_at(std::span<const std::byte> data, std::uint64_t offset, std::error_code& error) noexcept;
  std::size_t write(std::span<const std::span<const std::byte>> pieces);
  std::size_t write(std::span<const std::span<const std::byte>> pieces, std::error_code& error) noexcept;
  std::size_t write_at(std::span<const std::span<const std::byte>> pieces, std::uint64_t offset);
  std::size_t write_at(std::span<const std::span<const std::byte>> pieces, std::uint64_t offset,
                       std::error_code& error) noexcept;
  /// These return how much has been written, in any case: a full disk may take a part.
  std::size_t write_all(std::span<const std::byte> data);
  std::size_t write_all(std::span<const std::byte> data, std::error_code& error) noexcept;
  std::size_t write_all(std::string_view text);
  std::size_t write_all(std::string_view text, std::error_code& error) noexcept;
  std::size_t write_all_at(std::span<const std::byte> data, std::uint64_t offset);
  std::size_t write_all_at(std::span<const std::byte> data, std::uint64_t offset, std::error_code& error) noexcept;

  static constexpr std::size_t kPiecesMax = 64;  ///< that one vectored read or write takes

  // The cursor.

  /// Returns where it is now. next_data and next_hole go from `offset` on: lseek(2).
  std::uint64_t seek(std::int64_t offset, SeekFrom from = SeekFrom::start);
  std::uint64_t seek(std::int64_t offset, SeekFrom from, std::error_code& error) noexcept;
  [[nodiscard]] std::uint64_t tell();
  [[nodiscard]] std::uint64_t tell(std::error_code& error) noexcept;

  // The file.

  [[nodiscard]] FileStatus status();
  [[nodiscard]] FileStatus status(std::error_code& error) noexcept;
  [[nodiscard]] std::uint64_t size();
  [[nodiscard]] std::uint64_t size(std::error_code& error) noexcept;
  /// Makes it `size` bytes long: drops what is beyond, or adds zeros.
  void truncate(std::uint64_t size);
  void truncate(std::uint64_t size, std::error_code& error) noexcept;
  /// Returns when all that has been written would survive a loss of power. (A new file's name does when its directory
  /// has been synced as well: sync_directory() in filesystem.hpp.) After an error it is unknown what would; the kernel
  /// reports it once.
  void sync();
  void sync(std::error_code& error) noexcept;
  /// The same for the data and what is needed to read it, but not, say, the time of modification.
  void data_sync();
  void data_sync(std::error_code& error) noexcept;
  /// Sees to it that there is room on the device, and makes the file as long as that.
  void allocate(std::uint64_t offset, std::uint64_t length);
  void allocate(std::uint64_t offset, std::uint64_t length, std::error_code& error) noexcept;
  /// Gives room back: from now on zeros are read there. The size stays.
  void punch_hole(std::uint64_t offset, std::uint64_t length);
  void punch_hole(std::uint64_t offset, std::uint64_t length, std::error_code& error) noexcept;
  /// `length` 0: to the end.
  void advise(FileAdvice advice, std::uint64_t offset = 0, std::uint64_t length = 0);
  void advise(FileAdvice advice, std::uint64_t offset, std::uint64_t length, std::error_code& error) noexcept;
  void set_mode(unsigned mode);
  void set_mode(unsigned mode, std::error_code& error) noexcept;
  /// For OpenOptions::direct: what AlignedBuffer to make, what multiples to read and write.
  [[nodiscard]] DirectAlignment direct_alignment();
  [[nodiscard]] DirectAlignment direct_alignment(std::error_code& error) noexcept;
  /// Gives a file opened as temporary a name; there must be no such file yet.
  void give_name(const std::string& path);
  void give_name(const std::string& path, std::error_code& error) noexcept;

  // Locks on the whole file, against other openings of it, in this process and others: flock(2). They bind those who
  // ask for them only, end with unlock() or when the open file is closed, and fit std::unique_lock and
  // std::shared_lock. All fibers that use one File are one owner. Locking again changes the kind, with a moment in
  // between when nobody has it. Waiting is trying again, every kLockPauseMax at least; fibers are served in no order.

  void lock();
  void lock(std::error_code& error) noexcept;
  [[nodiscard]] bool try_lock();
  [[nodiscard]] bool try_lock(std::error_code& error) noexcept;
  void unlock();
  void unlock(std::error_code& error) noexcept;
  void lock_shared();
  void lock_shared(std::error_code& error) noexcept;
  [[nodiscard]] bool try_lock_shared();
  [[nodiscard]] bool try_lock_shared(std::error_code& error) noexcept;
  void unlock_shared() { unlock(); }

  static constexpr std::chrono::milliseconds kLockPauseMax{50};

 private:
  friend struct detail::FileAccess;
  explicit File(detail::FileState* state) noexcept : state_(state) {}
  void drop() noexcept;
  [[noreturn]] void fail(std::error_code error, std::string what) const;
  template <class Call>
  auto checked(const char* what, Call&& call);

  detail::FileState* state_ = nullptr;
};

}  // namespace bight
