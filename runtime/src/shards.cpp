// SPDX-License-Identifier: Apache-2.0
#include <bight/shards.hpp>

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <bight/check.hpp>
#include <bight/fd.hpp>
#include <bight/log.hpp>

#include "describe.hpp"
#include "loop.hpp"

namespace bight {
namespace {

using detail::log;

/// The signals the supervisor lives by, blocked and read as a descriptor. The mask and the disposition of SIGCHLD that
/// were there before come back at the end, and are given to the workers.
class SupervisorSignals {
 public:
  SupervisorSignals() {
    ::sigemptyset(&mask_);
    for (const int number : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&mask_, number);
    ::sigprocmask(SIG_BLOCK, &mask_, &before_);
    // Ignored, as some parents leave it to their children, it would not come, and the ends of workers would go unseen.
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(SIGCHLD, &action, &child_before_);
    fd_ = Fd(::signalfd(-1, &mask_, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) {
      const int error = errno;
      restore();
      throw std::system_error(error, std::generic_category(), "supervise shards: signalfd");
    }
  }
  ~SupervisorSignals() { restore(); }
  SupervisorSignals(const SupervisorSignals&) = delete;
  SupervisorSignals& operator=(const SupervisorSignals&) = delete;

  void restore() const noexcept {
    ::sigaction(SIGCHLD, &child_before_, nullptr);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }

  /// Waits for signals until `until`. True if one of them asks for a stop.
  [[nodiscard]] bool wait(TimePoint until) const noexcept {
    pollfd poll{fd_.get(), POLLIN, 0};
    int timeout = -1;
    if (until != TimePoint::max()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now()).count();
      timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
    }
    bool stop = false;
    if (::poll(&poll, 1, timeout) <= 0) return false;
    signalfd_siginfo info{};
    while (::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      stop |= info.ssi_signo != SIGCHLD;
    return stop;
  }

 private:
  sigset_t mask_{};
  sigset_t before_{};
  struct sigaction child_before_ {};
  Fd fd_;
};

/// The place of one shard: its worker, or when it gets a new one.
struct Seat {
  pid_t pid = 0;  // 0: none
  TimePoint started{};
  TimePoint restart = TimePoint::max();
  unsigned crashes = 0;  // in a row
};

class Supervisor {
 public:
  Supervisor(const ShardOptions& options, const std::function<void(Shard&)>& main)
      : options_(options), main_(main), seats_(options.count) {}

  int run();

 private:
  void start(std::size_t index);
  [[noreturn]] void work(std::size_t index, pid_t parent) noexcept;
  void reap();
  void on_end(std::size_t index, int status);
  void on_crash(std::size_t index, const std::string& how, Duration lived);
  void restart_due();
  void begin_drain();
  void kill_all(int number) noexcept;
  [[nodiscard]] bool all_ended() const noexcept;
  [[nodiscard]] TimePoint next_event() const noexcept;

  const ShardOptions options_;
  const std::function<void(Shard&)>& main_;
  std::vector<Seat> seats_;
  SupervisorSignals signals_;
  bool draining_ = false;
  bool failed_ = false;
  TimePoint kill_at_ = TimePoint::max();
};

int Supervisor::run() {
  try {
    for (std::size_t i = 0; i < seats_.size(); ++i) start(i);
  } catch (...) {
    kill_all(SIGKILL);
    throw;
  }
  while (!(draining_ && all_ended())) {
    const bool stop = signals_.wait(next_event());
    reap();
    if (stop) begin_drain();
    if (now() >= kill_at_) {
      log(LogLevel::warning, "shards did not end within their drain time and are killed");
      failed_ = true;
      kill_at_ = TimePoint::max();
      kill_all(SIGKILL);
    }
    if (!draining_) restart_due();
  }
  return failed_ ? 1 : 0;
}

void Supervisor::start(std::size_t index) {
  const pid_t parent = ::getpid();
  std::fflush(nullptr);  // what waits in stdio's buffers would be printed by the shard, too
  const pid_t pid = ::fork();
  if (pid < 0)
    throw std::system_error(errno, std::generic_category(), "start shard " + std::to_string(index) + ": fork");
  if (pid == 0) work(index, parent);
  Seat& seat = seats_[index];
  seat.pid = pid;
  seat.started = now();
  seat.restart = TimePoint::max();
}

void Supervisor::work(std::size_t index, pid_t parent) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) std::_Exit(1);  // it died before the line above
  int status = 1;
  try {
    Shard shard(index, options_.count, options_.drain);
    status = bight::run(options_.run, [&] {
      signals_.restore();  // not before the loop has its handlers: a signal to stop may be pending already
      main_(shard);
    });
  } catch (...) {
    log(LogLevel::error,
        "shard " + std::to_string(index) + " failed: " + detail::describe_error(std::current_exception()));
  }
  std::fflush(nullptr);
  std::_Exit(status);  // the parent's atexit handlers and static objects are the parent's
}

void Supervisor::reap() {
  for (std::size_t i = 0; i < seats_.size(); ++i) {
    if (seats_[i].pid == 0) continue;
    int status = 0;
    const pid_t ended = ::waitpid(seats_[i].pid, &status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno != ECHILD)) continue;
    seats_[i].pid = 0;
    if (ended > 0) {
      on_end(i, status);
    } else if (!draining_) {
      on_crash(i, "shard " + std::to_string(i) + " ended and somebody else was told how", now() - seats_[i].started);
    }
  }
}

void Supervisor::on_end(std::size_t index, int status) {
  const std::string who = "shard " + std::to_string(index);
  // Told to stop before it had anything to drain, a worker's main is cancelled: that is how it should end.
  const int exit = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (exit == 0 || (draining_ && (exit == 128 + SIGTERM || exit == 128 + SIGINT))) {
    if (draining_) return;
    log(LogLevel::warning, who + " ended before it was asked to; it is replaced");
    seats_[index].restart = now() + options_.back_off;
    return;
  }
  const std::string how = WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                                              : "ended with status " + std::to_string(WEXITSTATUS(status));
  if (draining_) {
    failed_ = true;
    log(LogLevel::warning, who + " " + how + " while draining");
    return;
  }
  on_crash(index, who + " " + how, now() - seats_[index].started);
}

/// `lived`: how long the worker did; one that could not even be forked, not at all.
void Supervisor::on_crash(std::size_t index, const std::string& how, Duration lived) {
  Seat& seat = seats_[index];
  seat.crashes = lived > Duration::zero() && lived >= options_.healthy_after ? 1 : seat.crashes + 1;
  if (options_.crashes_max != 0 && seat.crashes >= options_.crashes_max) {
    log(LogLevel::error, how + ", the " + std::to_string(seat.crashes) + "th time in a row: giving up");
    failed_ = true;
    begin_drain();
    return;
  }
  const unsigned doublings = std::min(seat.crashes - 1, 20U);
  const Duration pause = std::min(options_.back_off * (1U << doublings), options_.back_off_max);
  seat.restart = now() + pause;
  log(LogLevel::warning, how + "; it is replaced in " +
                             std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(pause).count()) +
                             " ms");
}

void Supervisor::restart_due() {
  // A worker that can not be started may be the end; then no other is, for it would not be told to stop.
  for (std::size_t i = 0; i < seats_.size() && !draining_; ++i) {
    if (seats_[i].pid != 0 || seats_[i].restart > now()) continue;
    try {
      start(i);
    } catch (const std::system_error& error) {
      on_crash(i, error.what(), Duration::zero());
    }
  }
}

void Supervisor::begin_drain() {
  if (draining_) return;
  draining_ = true;
  kill_at_ = detail::saturating_add(detail::saturating_add(now(), options_.drain), options_.kill_after);
  try {
    if (options_.on_drain) options_.on_drain();
  } catch (...) {  // workers are to be told all the same
    failed_ = true;
    log(LogLevel::error, "on_drain failed: " + detail::describe_error(std::current_exception()));
  }
  kill_all(SIGTERM);
}

void Supervisor::kill_all(int number) noexcept {
  for (const Seat& seat : seats_) {
    if (seat.pid != 0) ::kill(seat.pid, number);
  }
}

bool Supervisor::all_ended() const noexcept {
  return std::all_of(seats_.begin(), seats_.end(), [](const Seat& seat) { return seat.pid == 0; });
}

TimePoint Supervisor::next_event() const noexcept {
  if (draining_) return kill_at_;
  TimePoint first = TimePoint::max();
  for (const Seat& seat : seats_) first = std::min(first, seat.restart);
  return first;
}

#if defined(BIGHT_TSAN)
constexpr std::size_t sanitizer_threads = 1;  // its own, in the background
#else
constexpr std::size_t sanitizer_threads = 0;
#endif

std::size_t thread_count() noexcept {
  std::error_code error;
  const auto tasks = std::filesystem::directory_iterator("/proc/self/task", error);
  return error ? 1 : static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

}  // namespace

std::size_t cpu_count() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

int run_shards(const ShardOptions& options, const std::function<void(Shard&)>& main) {
  BIGHT_CHECK(detail::Loop::current() == nullptr, "run_shards forks, so it must come before any loop");
  BIGHT_CHECK(thread_count() <= 1 + sanitizer_threads, "run_shards forks, so it must come before any thread");
  ShardOptions complete = options;
  if (complete.count == 0) complete.count = cpu_count();
  return Supervisor(complete, main).run();
}

}  // namespace bight
