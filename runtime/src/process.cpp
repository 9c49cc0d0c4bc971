// SPDX-License-Identifier: Apache-2.0
#include <bight/process.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>

#include <bight/check.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/log.hpp>

#include "describe.hpp"
#include "descriptor_wait.hpp"
#include "fork_guard.hpp"
#include "forked_child.hpp"
#include "loop.hpp"
#include "reaper.hpp"

namespace bight {
namespace detail {

struct ProcessState {
  ProcessOptions options;
  pid_t pid = 0;
  PrivateFd pidfd;
  std::optional<int> exit_code;
  std::uint32_t forks = 0;  // that lay behind the process that it belongs to
  int uncaught_at_start = std::uncaught_exceptions();

  [[nodiscard]] bool ours() const noexcept { return forks == forks_so_far(); }
};

namespace {

bool daemon_child = false;

std::string next_name() {
  static std::atomic<unsigned> last{0};
  return "process-" + std::to_string(last.fetch_add(1, std::memory_order_relaxed) + 1);
}

struct ChildStart {
  const ProcessOptions& options;
  ProcessBody body;
  int status = 0;
};

int run_bare(ChildStart& start) {
  unblock_signals();
  return start.body.call(start.body.callable);
}

int run_in_loop(ChildStart& start) {
  const int ended_by = run_loop(
      start.options.run,
      [](void* argument) {
        unblock_signals();  // not before the loop has its handlers: a signal to stop may be pending already
        auto& self = *static_cast<ChildStart*>(argument);
        self.status = self.body.call(self.body.callable);
      },
      &start);
  if (ended_by != 0) exit_child_by(ended_by - 128);
  return start.status;
}

[[noreturn]] void run_child(void* argument) {
  auto& start = *static_cast<ChildStart*>(argument);
  daemon_child = start.options.daemon;
  int status = 1;
  try {
    status = start.body.bare ? run_bare(start) : run_in_loop(start);
  } catch (...) {
    log(LogLevel::error, "process '" + start.options.name + "' failed: " + describe_error(std::current_exception()));
  }
  exit_child(status);
}

/// Looks whether it has ended, and if so reaps it.
void reap(ProcessState& state) noexcept {
  if (state.exit_code) return;
  siginfo_t info{};
  const auto id = static_cast<id_t>(state.pidfd.get());
  int result = 0;
  do result = ::waitid(static_cast<idtype_t>(P_PIDFD), id, &info, WEXITED | WNOHANG);
  while (result != 0 && errno == EINTR);
  if (result == 0 && info.si_pid == 0) return;
  if (result == 0) {
    state.exit_code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return;
  }
  ::pollfd ended{state.pidfd.get(), POLLIN, 0};
  if (::poll(&ended, 1, 0) != 1) return;
  state.exit_code = 255;
  try {
    log_warning("process '" + state.options.name +
                "' has ended and somebody else was told how (is SIGCHLD ignored?): its exit code is taken to be 255");
  } catch (const std::bad_alloc&) {  // the line is lost
  }
}

}  // namespace

// A descriptor of its own, so that several fibers, and those of several loops, can wait for the same process.
ExitWatch::ExitWatch(const ProcessState& process) {
  Fd copy(::fcntl(process.pidfd.get(), F_DUPFD_CLOEXEC, 0));  // NOLINT(cppcoreguidelines-pro-type-vararg)
  if (!copy) throw_error({errno, std::generic_category()}, "wait for process '" + process.options.name + "'");
  state_ = &Loop::require().descriptors().open(copy.get());
  state_->shared = true;
  fd_ = copy.release();
}

ExitWatch::~ExitWatch() {
  Loop& loop = Loop::require();
  loop.engine().forget(fd_);
  loop.descriptors().close(fd_);
  ::close(fd_);
}

}  // namespace detail

using detail::Loop;
using detail::ProcessState;

// --- Beginnings ------------------------------------------------------------------------------------------------------

Process::Process(ProcessOptions options, detail::ProcessBody body) {
  std::error_code error;
  if (options.name.empty()) options.name = detail::next_name();
  const std::string name = options.name;
  *this = start_body(std::move(options), body, error);
  if (!error) return;
  const Loop* loop = Loop::current();
  std::string what = "start process '" + name + "'";
  if (this_process::is_daemon()) what += ", in a daemon, which may have no children";
  if (loop != nullptr && loop->engine_is_virtual()) what += ", in a simulated world, where there are none";
  throw std::system_error(error, what);
}

Process Process::start_body(ProcessOptions options, detail::ProcessBody body, std::error_code& error) {
  error.clear();
  const Loop* loop = Loop::current();
  if (loop != nullptr && loop->engine_is_virtual()) error = std::make_error_code(std::errc::operation_not_supported);
  if (this_process::is_daemon()) error = std::make_error_code(std::errc::operation_not_permitted);
  if (error) return {};
  if (options.name.empty()) options.name = detail::next_name();
  auto state = std::make_unique<ProcessState>();
  state->options = std::move(options);
  state->forks = detail::forks_so_far();
  detail::ChildStart start{state->options, body};
  const detail::ForkRequest request{[](void* argument) { detail::run_child(argument); }, &start, state->options.name,
                                    state->options.daemon || state->options.dies_with_parent};
  detail::Forked forked = detail::fork_process(request, error);
  if (error) return {};
  state->pid = forked.pid;
  state->pidfd = detail::keep_child(forked.pid, std::move(forked.pidfd));
  return Process(std::move(state));
}

Process::Process(std::unique_ptr<ProcessState> state) noexcept : state_(std::move(state)) {}
Process::Process() noexcept = default;
Process::Process(Process&& other) noexcept = default;

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    finish();
    state_ = std::move(other.state_);
  }
  return *this;
}

Process::~Process() { finish(); }

ProcessState& Process::state() const noexcept {
  BIGHT_CHECK(state_ != nullptr, "this Process handle is empty: it was default-made or moved from");
  BIGHT_CHECK(state_->ours(), "a Process is used in a process that did not start it: it is its parent's");
  return *state_;
}

// --- Ends ------------------------------------------------------------------------------------------------------------

bool Process::join_until(TimePoint when, std::error_code& error) {
  error.clear();
  ProcessState& process = state();
  if (detail::cancelled_here()) {
    error = std::make_error_code(std::errc::operation_canceled);
    return false;
  }
  for (detail::reap(process); !process.exit_code; detail::reap(process)) {
    error = detail::wait_ready_aside(process.pidfd.get(), detail::Readiness::readable, when);
    if (error == std::errc::timed_out) error.clear();
    if (error || now() >= when) break;
  }
  if (!error) detail::reap(process);
  return process.exit_code.has_value();
}

bool Process::join_until(TimePoint when) {
  std::error_code error;
  const bool ended = join_until(when, error);
  if (error) detail::throw_error(error, "wait for process '" + name() + "'");
  return ended;
}

bool Process::is_alive() noexcept { return !exit_code().has_value(); }

std::optional<int> Process::exit_code() noexcept {
  ProcessState& process = state();
  detail::reap(process);
  return process.exit_code;
}

void Process::terminate() noexcept { send_signal(SIGTERM); }
void Process::kill() noexcept { send_signal(SIGKILL); }

void Process::send_signal(int number) noexcept {
  const ProcessState& process = state();
  if (!process.exit_code) ::syscall(SYS_pidfd_send_signal, process.pidfd.get(), number, nullptr, 0);
}

/// The end of a handle: that of its process, too, whatever it takes.
void Process::finish() noexcept {
  const std::unique_ptr<ProcessState> going = std::move(state_);
  if (going == nullptr || !going->ours()) return;
  detail::reap(*going);
  const Loop* loop = Loop::current();
  const bool can_wait = loop == nullptr || loop->running() != nullptr;
  const auto wait_until = [&](TimePoint when) noexcept {
    while (!going->exit_code && now() < when) {
      const std::error_code error = detail::wait_ready_aside(going->pidfd.get(), detail::Readiness::readable, when);
      detail::reap(*going);
      if (error && error != std::errc::timed_out) return;
    }
  };
  const bool unwinding = std::uncaught_exceptions() > going->uncaught_at_start;
  if (can_wait && !going->options.daemon && !unwinding) wait_until(TimePoint::max());
  if (can_wait && !going->exit_code) {
    ::syscall(SYS_pidfd_send_signal, going->pidfd.get(), SIGTERM, nullptr, 0);
    std::optional<Shield> shield;
    if (loop != nullptr) shield.emplace();
    wait_until(detail::saturating_add(now(), going->options.patience));
  }
  if (going->exit_code) return;
  if (::syscall(SYS_pidfd_send_signal, going->pidfd.get(), SIGKILL, nullptr, 0) != 0 && errno == EPERM) {
    // It has another user's identity now, and may go on for as long as it likes.
    detail::bury_later(std::move(going->pidfd), false);
    return;
  }
  while (!going->exit_code) {  // not for long: nothing runs in it any more
    ::pollfd ended{going->pidfd.get(), POLLIN, 0};
    ::poll(&ended, 1, -1);
    detail::reap(*going);
  }
}

pid_t Process::pid() const noexcept { return state_ != nullptr ? state_->pid : 0; }
const std::string& Process::name() const noexcept { return state().options.name; }
bool Process::is_daemon() const noexcept { return state().options.daemon; }
int Process::sentinel() const noexcept { return state().pidfd.get(); }

std::optional<std::size_t> wait_any_exit(std::span<Process* const> processes, TimePoint when) {
  const auto ended = [&]() -> std::optional<std::size_t> {
    const auto first =
        std::find_if(processes.begin(), processes.end(), [](Process* each) { return !each->is_alive(); });
    if (first == processes.end()) return std::nullopt;
    return static_cast<std::size_t>(first - processes.begin());
  };
  if (detail::cancelled_here()) throw Cancelled{};
  if (const auto first = ended()) return first;
  const auto fail = [](int error) { detail::throw_error({error, std::generic_category()}, "wait for processes"); };
  const Fd set(::epoll_create1(EPOLL_CLOEXEC));
  if (!set) fail(errno);
  for (const Process* each : processes) {
    ::epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(set.get(), EPOLL_CTL_ADD, each->sentinel(), &event) != 0 && errno != EEXIST) fail(errno);
  }
  const std::error_code error = detail::wait_readable_once(set.get(), when);
  if (error && error != std::errc::timed_out) detail::throw_error(error, "wait for processes");
  return ended();
}

bool this_process::is_daemon() noexcept { return detail::daemon_child; }

}  // namespace bight
