// SPDX-License-Identifier: Apache-2.0
#include "spawn_process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <new>

#include <bight/check.hpp>

// Sanitizers keep books on threads and stacks, in which a child that shares its parent's memory has no account.
#if defined(__clang__)
#define BIGHT_IN_CHILD __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define BIGHT_IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined"), noinline))
#endif

namespace bight::detail {
namespace {

constexpr int kSignals = 64;
constexpr std::size_t kSignalSetBytes = kSignals / CHAR_BIT;
constexpr std::size_t kChildStack = 16 * 1024;
constexpr int kExitOfFailure = 127;

/// What the kernel takes, which is not what libc does.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  std::uint64_t mask;
};

/// What a child is told, and what it has to say if it could not become its program.
struct Child {
  const ProcessPlan* plan;
  long parent;
  int error = 0;
  SpawnStage stage = SpawnStage::group;
};

/// A system call by number: no wrapper of libc's, which a sanitizer may have replaced. -errno, which is the parent's to
/// restore.
template <class... A>
BIGHT_IN_CHILD long call(long number, A... arguments) noexcept {
  const long result = ::syscall(number, arguments...);
  return result < 0 ? -errno : result;
}

/// Handlers are the parent's functions and would run in its memory. exec resets them, but signals can not stay blocked
/// until then.
BIGHT_IN_CHILD void reset_signals(bool all) noexcept {
  for (int number = 1; number <= kSignals; ++number) {
    KernelAction action{};
    if (!all) {
      if (call(SYS_rt_sigaction, number, nullptr, &action, kSignalSetBytes) != 0 || action.handler == SIG_IGN) continue;
      action = {};
    }
    call(SYS_rt_sigaction, number, &action, nullptr, kSignalSetBytes);
  }
}

BIGHT_IN_CHILD long set_group(const ProcessPlan& plan) noexcept {
  switch (plan.group) {
    case ProcessPlan::Group::inherited: return 0;
    case ProcessPlan::Group::own: return call(SYS_setpgid, 0, 0);
    case ProcessPlan::Group::session: return call(SYS_setsid);
  }
  return 0;
}

/// Those at numbers that others are to get move out of the way first.
BIGHT_IN_CHILD long move_descriptors(const ProcessPlan& plan) noexcept {
  if (plan.move_count == 0) return 0;
  const int beyond = plan.moves[plan.move_count - 1].to + 1;
  for (std::size_t i = 0; i < plan.move_count; ++i) {
    DescriptorMove& move = plan.moves[i];
    bool in_the_way = false;
    for (std::size_t k = 0; k < plan.move_count; ++k) {
      if (k != i && plan.moves[k].to == move.from) in_the_way = true;
    }
    if (!in_the_way) continue;
    const long copy = call(SYS_fcntl, move.from, F_DUPFD_CLOEXEC, beyond);
    if (copy < 0) return copy;
    move.from = static_cast<int>(copy);
  }
  for (std::size_t i = 0; i < plan.move_count; ++i) {
    const DescriptorMove& move = plan.moves[i];
    const long done =
        move.from == move.to ? call(SYS_fcntl, move.to, F_SETFD, 0) : call(SYS_dup3, move.from, move.to, 0);
    if (done < 0) return done;
  }
  return 0;
}

BIGHT_IN_CHILD bool is_kept(const ProcessPlan& plan, int fd) noexcept {
  for (std::size_t i = 0; i < plan.move_count; ++i) {
    if (plan.moves[i].to == fd) return true;
  }
  return false;
}

/// What an entry of getdents64(2) begins with.
struct DirectoryEntry {
  std::uint64_t inode;
  std::int64_t offset;
  std::uint16_t length;
  std::uint8_t type;
};

/// Where close_range(2) is forbidden.
BIGHT_IN_CHILD void close_others_one_by_one(const ProcessPlan& plan) noexcept {
  const long folder = call(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) {
    rlimit64 limit{};
    call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
    const std::uint64_t end = limit.rlim_cur < 65536 ? limit.rlim_cur : 65536;
    for (int fd = 0; fd < static_cast<int>(end); ++fd) {
      if (!is_kept(plan, fd)) call(SYS_close, fd);
    }
    return;
  }
  alignas(8) char entries[1024];  // NOLINT: std::array has functions
  constexpr long kName = offsetof(DirectoryEntry, type) + 1;
  long size = 0;
  while ((size = call(SYS_getdents64, folder, entries, sizeof entries)) > 0) {
    for (long at = 0; at < size;) {
      const char* const entry = entries + at;
      int fd = 0;
      const char* digit = entry + kName;
      for (; *digit >= '0' && *digit <= '9'; ++digit) fd = fd * 10 + (*digit - '0');
      const bool number = *digit == '\0' && digit != entry + kName;
      if (number && fd != folder && !is_kept(plan, fd)) call(SYS_close, fd);
      at += *reinterpret_cast<const std::uint16_t*>(entry + offsetof(DirectoryEntry, length));
    }
  }
  if (!is_kept(plan, static_cast<int>(folder))) call(SYS_close, folder);
}

BIGHT_IN_CHILD void close_others(const ProcessPlan& plan) noexcept {
  unsigned first = 0;
  for (std::size_t i = 0; i <= plan.move_count; ++i) {
    const unsigned end = i < plan.move_count ? static_cast<unsigned>(plan.moves[i].to) : UINT_MAX;
    if (first < end && call(SYS_close_range, first, end - (i < plan.move_count ? 1U : 0U), 0) < 0) {
      close_others_one_by_one(plan);
      return;
    }
    first = end + 1;
  }
}

BIGHT_IN_CHILD long set_limits(const ProcessPlan& plan) noexcept {
  for (std::size_t i = 0; i < plan.limit_count; ++i) {
    const long done = call(SYS_prlimit64, 0, plan.limits[i].resource, &plan.limits[i].limit, nullptr);
    if (done < 0) return done;
  }
  return 0;
}

/// Groups first: afterwards the right to change them may be gone.
BIGHT_IN_CHILD long set_identity(const ProcessPlan& plan) noexcept {
  long done = 0;
  if (plan.groups != nullptr) done = call(SYS_setgroups, plan.group_count, plan.groups);
  if (done >= 0 && plan.group_id >= 0) done = call(SYS_setresgid, plan.group_id, plan.group_id, plan.group_id);
  if (done >= 0 && plan.user_id >= 0) done = call(SYS_setresuid, plan.user_id, plan.user_id, plan.user_id);
  return done;
}

BIGHT_IN_CHILD long take_terminal(const ProcessPlan& plan) noexcept {
  return plan.terminal < 0 ? 0 : call(SYS_ioctl, plan.terminal, TIOCSCTTY, 0);
}

/// After the change of identity, which takes it back.
BIGHT_IN_CHILD long tie_to_parent(const Child& child) noexcept {
  if (child.plan->death_signal == 0) return 0;
  const long done = call(SYS_prctl, PR_SET_PDEATHSIG, child.plan->death_signal, 0, 0, 0);
  if (done < 0) return done;
  return call(SYS_getppid) == child.parent ? 0 : -ESRCH;  // it died before that
}

/// Whether it can go on; else notes why not.
BIGHT_IN_CHILD bool went_well(Child& child, SpawnStage stage, long result) noexcept {
  if (result >= 0) return true;
  child.error = static_cast<int>(-result);
  child.stage = stage;
  return false;
}

BIGHT_IN_CHILD int run_child(void* argument) noexcept {
  Child& child = *static_cast<Child*>(argument);
  const ProcessPlan& plan = *child.plan;
  reset_signals(plan.default_signals);
  bool well = went_well(child, SpawnStage::group, set_group(plan));
  well = well && went_well(child, SpawnStage::descriptors, move_descriptors(plan));
  if (well) close_others(plan);
  if (well && plan.umask >= 0) call(SYS_umask, plan.umask);
  well = well && went_well(child, SpawnStage::limits, set_limits(plan));
  well = well && went_well(child, SpawnStage::terminal, take_terminal(plan));
  well = well && went_well(child, SpawnStage::identity, set_identity(plan));
  if (well && plan.directory != nullptr) {
    well = went_well(child, SpawnStage::directory, call(SYS_chdir, plan.directory));
  }
  well = well && went_well(child, SpawnStage::parent, tie_to_parent(child));
  if (well) {
    const std::uint64_t mask = plan.default_signals ? 0 : plan.mask;
    call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, kSignalSetBytes);
    went_well(child, SpawnStage::exec, call(SYS_execve, plan.path, plan.arguments, plan.environment));
  }
  for (;;) call(SYS_exit_group, kExitOfFailure);
}

/// A child that did not become a program has ended; nobody else is to hear of it.
void bury(int pidfd) noexcept {
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

}  // namespace

namespace {

#if defined(BIGHT_TSAN)
// ThreadSanitizer's account of this thread is in memory, too, and the child's calls would be added to it. So the child
// gets a copy of all memory, and only its report is shared.
constexpr int kCloneFlags = CLONE_VFORK | CLONE_PIDFD | SIGCHLD;

class ChildReport {
 public:
  explicit ChildReport(const Child& child) noexcept
      : page_(::mmap(nullptr, sizeof child, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    BIGHT_CHECK(page_ != MAP_FAILED, "no memory for the report of a child, under ThreadSanitizer");
    ::new (page_) Child(child);
  }
  ChildReport(const ChildReport&) = delete;
  ChildReport& operator=(const ChildReport&) = delete;
  ~ChildReport() { ::munmap(page_, sizeof(Child)); }
  [[nodiscard]] Child& operator*() const noexcept { return *static_cast<Child*>(page_); }

 private:
  void* page_;
};
#else
constexpr int kCloneFlags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;

class ChildReport {
 public:
  explicit ChildReport(const Child& child) noexcept : child_(child) {}
  [[nodiscard]] Child& operator*() noexcept { return child_; }

 private:
  Child child_;
};
#endif

}  // namespace

[[gnu::noinline]] SpawnOutcome spawn_process(const ProcessPlan& plan) noexcept {
  // The child needs a fraction of it. This thread, on whose stack it is, stands still meanwhile.
  alignas(16) std::byte stack[kChildStack];  // NOLINT: it is not to be cleared
  ChildReport report(Child{&plan, ::getpid()});
  Child& child = *report;
  SpawnOutcome outcome;
  int pidfd = -1;
  const int error = errno;
  // All of them, also the two that libc keeps to itself and its own functions would leave out.
  const std::uint64_t all = ~std::uint64_t{0};
  std::uint64_t before = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, kSignalSetBytes);
  outcome.pid = ::clone(&run_child, stack + sizeof stack, kCloneFlags, &child, &pidfd);
  outcome.error = outcome.pid < 0 ? errno : child.error;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, kSignalSetBytes);
  outcome.stage = outcome.pid < 0 ? SpawnStage::clone : child.stage;
  // One that fails late (a control group has its fill of processes) has left a number there that is no longer ours.
  if (outcome.pid > 0) outcome.pidfd = Fd(pidfd);
  if (outcome.pid > 0 && outcome.error != 0) bury(pidfd);
  if (outcome.error != 0) outcome.pidfd.reset();
  errno = error;
  return outcome;
}

}  // namespace bight::detail
