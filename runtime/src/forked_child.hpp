// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <system_error>
#include <vector>

#include <bight/fd.hpp>

namespace bight::detail {

class Loop;

/// The loops of this process: what they have open is closed in the children that fork_process() makes, so that a
/// connection ends when the parent closes it.
class LoopsToForget {
 public:
  void add(Loop& loop);
  void remove(Loop& loop) noexcept;

  /// In a child.
  void close_descriptors() noexcept;
  [[nodiscard]] std::size_t count() const;

 private:
  std::vector<Loop*> loops_;  // under fork_mutex()
};

[[nodiscard]] LoopsToForget& loops_to_forget();

/// A descriptor that is no business of child processes, though no loop has it: fork_process() closes it there.
class PrivateFd {
 public:
  PrivateFd() noexcept = default;
  /// Takes it over. Throws std::bad_alloc, and then closes it.
  explicit PrivateFd(int fd);
  PrivateFd(PrivateFd&& other) noexcept : fd_(std::move(other.fd_)) {}
  PrivateFd& operator=(PrivateFd&& other) noexcept {
    PrivateFd(std::move(other)).swap(*this);
    return *this;
  }
  ~PrivateFd() { reset(); }
  void swap(PrivateFd& other) noexcept { fd_.swap(other.fd_); }
  void reset() noexcept;
  [[nodiscard]] int get() const noexcept { return fd_.get(); }

 private:
  Fd fd_;
};

/// The pidfd of a child that has just been made, of which nobody else knows. Without memory the child is ended, and
/// std::bad_alloc thrown.
[[nodiscard]] PrivateFd keep_child(pid_t pid, Fd pidfd);

struct ForkRequest {
  void (*child)(void*);  // what the child does; it may not return
  void* argument;
  std::string name;  // for reports, and for top(1) and the like: 15 bytes of it
  bool dies_with_parent = false;
};

struct Forked {
  pid_t pid = 0;
  Fd pidfd;
};

/// fork(2), for a child that is a program of its own: it has forgotten the parent's loops and closed what was theirs,
/// its signals have the default actions (crashes excepted) and are all blocked, and it runs on the stack of the
/// thread. From a fiber the fork is therefore made by the loop, while the fiber waits (uninterrupted).
[[nodiscard]] Forked fork_process(const ForkRequest& request, std::error_code& error) noexcept;

/// Whether this process was made by fork_process().
[[nodiscard]] bool in_forked_child() noexcept;

/// Unblocks all signals, of which none is blocked in a program's first thread.
void unblock_signals() noexcept;

/// Flushes stdio and ends the process; nothing that is the parent's is run.
[[noreturn]] void exit_child(int status) noexcept;
/// The same, by a signal whose default is to end the process.
[[noreturn]] void exit_child_by(int signal) noexcept;

}  // namespace bight::detail
