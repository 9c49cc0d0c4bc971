// SPDX-License-Identifier: Apache-2.0
#include "forked_child.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include <bight/log.hpp>

#include "fork_guard.hpp"
#include "loop.hpp"
#include "own_threads.hpp"
#include "remote_queue.hpp"
#include "sanitizer_threads.hpp"

namespace bight::detail {
namespace {

bool forked_child = false;

struct PrivateFds {
  std::vector<int> numbers;  // under fork_mutex()
};

PrivateFds& private_fds() {
  static auto* const fds = new PrivateFds;  // never destroyed: objects that end with the process still have some
  return *fds;
}

// --- The warning about threads ---------------------------------------------------------------------------------------

/// Threads that io_uring has made in the kernel run no code of the program's.
bool is_kernels(const char* thread) noexcept {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", thread);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  char name[16] = {};
  return file && ::read(file.get(), name, sizeof name - 1) > 0 && std::string_view(name).starts_with("iou-");
}

/// Threads of the program's own, as far as can be told, besides the calling one.
std::size_t foreign_threads() noexcept {
  DIR* const tasks = ::opendir("/proc/self/task");
  if (tasks == nullptr) return 0;
  std::size_t threads = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else reads this one
  while (const dirent* each = ::readdir(tasks)) threads += each->d_name[0] != '.' && !is_kernels(each->d_name) ? 1 : 0;
  ::closedir(tasks);
  const std::size_t here = Loop::current() == nullptr ? 1 : 0;
  const std::size_t known =
      loops_to_forget().count() + here + own_threads.load(std::memory_order_relaxed) + sanitizer_threads;
  return threads > known ? threads - known : 0;
}

void warn_of_threads(const std::string& name) noexcept {
  static std::atomic<bool> warned{false};
  if (warned.load(std::memory_order_relaxed)) return;
  const std::size_t threads = foreign_threads();
  if (threads == 0 || warned.exchange(true)) return;
  try {
    log_warning("process '" + name + "' is forked while " + std::to_string(threads) +
                " other thread(s) run: a lock that one of them holds now stays locked in the child; make processes, "
                "pools and managers before threads");
  } catch (const std::bad_alloc&) {  // the line is lost
  }
}

// --- The child -------------------------------------------------------------------------------------------------------

bool is_crash(int number) noexcept {
  return number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE || number == SIGABRT ||
         number == SIGTRAP || number == SIGSYS;
}

/// As execve(2) does it, except that who reports crashes reports the child's, too.
void reset_signal_actions() noexcept {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    if (is_crash(number) || ::sigaction(number, nullptr, &action) != 0) continue;
    if ((action.sa_flags & SA_SIGINFO) == 0 && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) continue;
    action = {};
    action.sa_handler = SIG_DFL;
    ::sigaction(number, &action, nullptr);
  }
}

[[noreturn]] void begin_child(const ForkRequest& request, pid_t parent) noexcept {
  if (request.dies_with_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // it died before the line above
  }
  forked_child = true;
  loops_to_forget().close_descriptors();
  for (const int fd : private_fds().numbers) ::close(fd);
  private_fds().numbers.clear();
  reset_signal_actions();
  ::prctl(PR_SET_NAME, request.name.c_str());  // NOLINT(cppcoreguidelines-pro-type-vararg)
  request.child(request.argument);
  std::abort();
}

/// While it lives, an ignored SIGCHLD is not: a child that ends at once would be gone before there is a pidfd of it.
class ChildrenKept {
 public:
  ChildrenKept() noexcept {
    ::sigaction(SIGCHLD, nullptr, &before_);
    ignored_ = before_.sa_handler == SIG_IGN || (before_.sa_flags & SA_NOCLDWAIT) != 0;
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    if (ignored_) ::sigaction(SIGCHLD, &action, nullptr);
  }
  ChildrenKept(const ChildrenKept&) = delete;
  ChildrenKept& operator=(const ChildrenKept&) = delete;
  ~ChildrenKept() { restore(); }
  void restore() const noexcept {
    if (ignored_) ::sigaction(SIGCHLD, &before_, nullptr);
  }

 private:
  struct sigaction before_ {};
  bool ignored_ = false;
};

Forked fork_now(const ForkRequest& request, std::error_code& error) noexcept {
  error.clear();
  warn_of_threads(request.name);
  // Its place will be the pidfd's: else the child would be there, and the want of a descriptor be found out too late.
  Fd reserved(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!reserved) {
    error.assign(errno, std::generic_category());
    return {};
  }
  std::fflush(nullptr);  // what waits in stdio's buffers would be printed by the child, too
  ::sigset_t all;
  ::sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // so that none of the parent's handlers runs in the child
  const pid_t parent = ::getpid();
  const ChildrenKept kept;
  Forked forked;
  forked.pid = ::fork();
  if (forked.pid == 0) {
    reserved.reset();
    kept.restore();
    begin_child(request, parent);
  }
  if (forked.pid < 0) error.assign(errno, std::generic_category());
  reserved.reset();
  // Nobody else waits for it, so until we have, the number is its own.
  if (!error) forked.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, forked.pid, 0)));
  if (!error && !forked.pidfd) {
    error.assign(errno, std::generic_category());
    ::kill(forked.pid, SIGKILL);
    ::waitpid(forked.pid, nullptr, 0);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return forked;
}

// --- From a fiber ----------------------------------------------------------------------------------------------------

/// A fiber's fork, made on the loop's stack.
struct ForkCall : RemoteWake, Parking {
  static const ParkingKind kKind;
  ForkCall(FiberControl& who, const ForkRequest& what, std::error_code& where) noexcept
      : RemoteWake([](RemoteWake& wake) noexcept {
          auto& call = static_cast<ForkCall&>(wake);
          call.forked = fork_now(call.request, call.error);
          Loop::require().make_ready(*call.fiber);
        }),
        Parking(who, kKind),
        request(what),
        error(where) {}

  const ForkRequest& request;
  std::error_code& error;
  Forked forked;
};

const ParkingKind ForkCall::kKind{nullptr, [](const Parking&, std::string& text) { text += "a fork"; }};

}  // namespace

Forked fork_process(const ForkRequest& request, std::error_code& error) noexcept {
  Loop* const loop = Loop::current();
  FiberControl* const fiber = loop != nullptr ? loop->running() : nullptr;
  if (fiber == nullptr) return fork_now(request, error);
  ForkCall call(*fiber, request, error);
  loop->remote()->wake(call);
  loop->park(call);
  return std::move(call.forked);
}

bool in_forked_child() noexcept { return forked_child; }

void unblock_signals() noexcept {
  ::sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

void exit_child(int status) noexcept {
  std::fflush(nullptr);
  ::_exit(status);  // the parent's atexit handlers and static objects are the parent's
}

void exit_child_by(int signal) noexcept {
  std::fflush(nullptr);
  ::signal(signal, SIG_DFL);
  unblock_signals();
  ::raise(signal);
  ::_exit(128 + signal);
}

// --- What the child does not keep ------------------------------------------------------------------------------------

LoopsToForget& loops_to_forget() {
  static auto* const loops = new LoopsToForget;  // as private_fds()
  return *loops;
}

void LoopsToForget::add(Loop& loop) {
  const std::lock_guard lock(fork_mutex());
  loops_.push_back(&loop);
}

void LoopsToForget::remove(Loop& loop) noexcept {
  const std::lock_guard lock(fork_mutex());
  std::erase(loops_, &loop);
}

std::size_t LoopsToForget::count() const {
  const std::lock_guard lock(fork_mutex());
  return loops_.size();
}

void LoopsToForget::close_descriptors() noexcept {
  for (Loop* const loop : loops_) {
    if (loop->engine_is_virtual()) continue;  // its descriptors are none
    loop->engine().close_in_forked_child();
    loop->splice_pipes().close_in_forked_child();
    loop->descriptors().for_each_owned([](int fd) {
      if (fd > STDERR_FILENO) ::close(fd);
    });
  }
  loops_.clear();
}

PrivateFd::PrivateFd(int fd) : fd_(fd) {
  const std::lock_guard lock(fork_mutex());
  private_fds().numbers.push_back(fd);
}

PrivateFd keep_child(pid_t pid, Fd pidfd) {
  try {
    return PrivateFd(pidfd.release());
  } catch (const std::bad_alloc&) {
    ::kill(pid, SIGKILL);  // nobody has waited for it, so the number is its own
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    throw;
  }
}

void PrivateFd::reset() noexcept {
  if (!fd_) return;
  const std::lock_guard lock(fork_mutex());
  std::erase(private_fds().numbers, fd_.get());
  fd_.reset();
}

}  // namespace bight::detail
