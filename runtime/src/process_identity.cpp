// SPDX-License-Identifier: Apache-2.0
#include "process_identity.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "fork_guard.hpp"

namespace bight::detail {
namespace {

/// When a process was started, in ticks since the system was (proc(5), /proc/PID/stat, field 22). 0: not known.
std::uint64_t start_of(pid_t pid) noexcept {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/stat", static_cast<int>(pid));
  const Fd file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  if (!file) return 0;
  std::array<char, 1024> buffer{};
  const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
  if (count <= 0) return 0;
  std::string_view text(buffer.data(), static_cast<std::size_t>(count));
  const std::size_t name_end = text.rfind(')');  // the name may contain anything
  if (name_end == std::string_view::npos) return 0;
  text.remove_prefix(name_end + 1);
  constexpr int kFieldsBetween = 20;  // from the name, field 2, to field 22
  for (int i = 0; i < kFieldsBetween; ++i) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return 0;
    text.remove_prefix(space + 1);
  }
  std::uint64_t start = 0;
  std::from_chars(text.data(), text.data() + text.size(), start);
  return start;
}

ProcessId make_id(pid_t pid, std::uint64_t start) noexcept {
  return static_cast<ProcessId>(pid) | start << (kPidBits + kFlagBits);
}

}  // namespace

ProcessId this_process() noexcept {
  static std::atomic<ProcessId> known{0};
  static std::atomic<std::uint32_t> known_for{~std::uint32_t{0}};
  const std::uint32_t forks = forks_so_far();
  if (known_for.load(std::memory_order_acquire) != forks) {
    const pid_t pid = ::getpid();
    known.store(make_id(pid, start_of(pid)), std::memory_order_relaxed);  // threads that race store the same
    known_for.store(forks, std::memory_order_release);
  }
  return known.load(std::memory_order_relaxed);
}

WatchedProcess watch_process(ProcessId id) noexcept {
  const pid_t pid = pid_of(id);
  WatchedProcess watched;
  watched.fd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!watched.fd) {
    // Without a descriptor to spare, or on a kernel (or in a container) without pidfds, a signal's way is asked.
    watched.ended = errno == ESRCH || (::kill(pid, 0) != 0 && errno == ESRCH);
    if (watched.ended) return watched;
  } else {
    pollfd polled{watched.fd.get(), POLLIN, 0};
    watched.ended = ::poll(&polled, 1, 0) > 0;
  }
  // Looked at after the descriptor was opened: if it is the right one now, the descriptor is its.
  const std::uint64_t start = start_of(pid);
  if (start != 0 && id >> (kPidBits + kFlagBits) != 0 && make_id(pid, start) != (id & kIdMask)) watched.ended = true;
  return watched;
}

bool has_ended(ProcessId id) noexcept { return watch_process(id).ended; }

}  // namespace bight::detail
