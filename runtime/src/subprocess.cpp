// SPDX-License-Identifier: Apache-2.0
#include <bight/subprocess.hpp>

#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <new>
#include <span>
#include <utility>

#include <bight/check.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/scope.hpp>
#include <bight/signal.hpp>
#include <bight/wait_group.hpp>

#include "descriptor_wait.hpp"
#include "fork_guard.hpp"
#include "loop.hpp"
#include "reaper.hpp"
#include "subprocess_state.hpp"

namespace bight {
namespace detail {

bool SubprocessState::reap() noexcept {
  if (!status) status = reap_child(pidfd.get());
  return status.has_value();
}

int SubprocessState::send(int signal) noexcept {
  if (reap()) return ESRCH;
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0 ? 0 : errno;
}

int SubprocessState::send_to_group(int signal) noexcept {
  const int failed = own_group ? send_to_own_group(signal) : ESRCH;
  // It may have gone into another group by itself, and left others in this one.
  if (failed == 0 && signal != SIGKILL) return 0;
  const int failed_alone = send(signal);
  return failed == ESRCH ? failed_alone : failed;
}

int SubprocessState::send_to_own_group(int signal) const noexcept {
  constexpr unsigned kProcessGroup = 1U << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, kProcessGroup) == 0) return 0;
  if (errno != EINVAL) return errno;
  // Only as long as the leader has not been reaped is the group's number certain to be its.
  if (status) return ESRCH;
  return ::kill(-pid, signal) == 0 ? 0 : errno;
}

}  // namespace detail

using detail::SubprocessState;

// --- Beginnings and ends ---------------------------------------------------------------------------------------------

Subprocess Subprocess::start(const std::vector<std::string>& args, const SubprocessOptions& options) {
  std::error_code error;
  std::string what;
  auto state = detail::start_subprocess(args, options, error, &what);
  if (state == nullptr) detail::throw_error(error, what);
  return Subprocess(std::move(state));
}

Subprocess Subprocess::start(const std::vector<std::string>& args, const SubprocessOptions& options,
                             std::error_code& error) {
  return Subprocess(detail::start_subprocess(args, options, error, nullptr));
}

Subprocess::Subprocess(std::unique_ptr<SubprocessState> state) noexcept : state_(std::move(state)) {}
Subprocess::Subprocess() noexcept = default;
Subprocess::Subprocess(Subprocess&& other) noexcept = default;

Subprocess& Subprocess::operator=(Subprocess&& other) noexcept {
  if (this != &other) {
    finish();
    state_ = std::move(other.state_);
  }
  return *this;
}

Subprocess::~Subprocess() { finish(); }

void Subprocess::finish() noexcept {
  std::unique_ptr<SubprocessState> going = std::move(state_);
  if (going == nullptr) return;
  if (going->forks != detail::forks_so_far()) {
    static_cast<void>(going.release());  // it is the parent's, as are its streams and their loop
    return;
  }
  BIGHT_CHECK(going->waiting == 0, "a Subprocess is destroyed while fibers wait for it");
  if (going->reap()) return;
  static_cast<void>(going->send_to_group(SIGKILL));
  if (!going->reap()) detail::bury_later(std::move(going->pidfd), true);
}

void Subprocess::detach() noexcept {
  SubprocessState& process = state();
  BIGHT_CHECK(process.waiting == 0, "a Subprocess is detached while fibers wait for it");
  if (!process.reap()) detail::bury_later(std::move(process.pidfd), false);
  state_.reset();
}

SubprocessState& Subprocess::state() const noexcept {
  BIGHT_CHECK(state_ != nullptr, "this Subprocess is empty: it was default-made, moved from or detached");
  BIGHT_CHECK(state_->forks == detail::forks_so_far(), "a Subprocess is used in a process that did not start it");
  return *state_;
}

pid_t Subprocess::pid() const noexcept { return state_ != nullptr ? state_->pid : 0; }
const std::string& Subprocess::name() const noexcept { return state().name; }
int Subprocess::pidfd() const noexcept { return state().pidfd.get(); }
Stream& Subprocess::input() const noexcept { return state().input; }
Stream& Subprocess::output() const noexcept { return state().output; }
Stream& Subprocess::errors() const noexcept { return state().errors; }
Stream& Subprocess::terminal() const noexcept { return state().terminal; }

// --- Waiting ---------------------------------------------------------------------------------------------------------

ExitStatus Subprocess::wait(std::error_code& error) {
  SubprocessState& process = state();
  const detail::Visit visit(process.waiting);
  while (!process.reap()) {
    error = detail::wait_ready_aside(process.pidfd.get(), detail::Readiness::readable, TimePoint::max());
    if (!error || process.reap()) continue;
    return {};
  }
  error.clear();
  return *process.status;
}

ExitStatus Subprocess::wait() {
  const SubprocessState& process = state();  // this object may be moved from meanwhile
  std::error_code error;
  const ExitStatus status = wait(error);
  if (error) detail::throw_error(error, "wait for " + process.name);
  return status;
}

std::optional<ExitStatus> Subprocess::wait_by(TimePoint when) {
  SubprocessState& process = state();
  if (process.reap()) return process.status;
  if (when == TimePoint::max()) return wait();
  Deadline deadline(when);
  try {
    return wait();
  } catch (const Cancelled&) {
    if (!deadline.absorbs()) throw;
  }
  process.reap();
  return process.status;
}

std::optional<ExitStatus> Subprocess::try_wait() noexcept {
  state().reap();
  return state().status;
}

// --- Signals ---------------------------------------------------------------------------------------------------------

bool Subprocess::send_signal(int number, std::error_code& error) noexcept {
  const int failed = state().send(number);
  error = failed == ESRCH ? std::error_code() : std::error_code(failed, std::generic_category());
  return failed == 0;
}

bool Subprocess::send_signal(int number) {
  std::error_code error;
  const bool sent = send_signal(number, error);
  if (error) detail::throw_error(error, "send " + signal_name(number) + " to " + name());
  return sent;
}

bool Subprocess::terminate() noexcept { return state().send_to_group(SIGTERM) == 0; }
bool Subprocess::kill() noexcept { return state().send_to_group(SIGKILL) == 0; }

ExitStatus Subprocess::stop(Duration grace) {
  terminate();
  try {
    static_cast<void>(wait_for(grace));
  } catch (...) {
    kill();
    throw;
  }
  SubprocessState& process = state();
  const int failed = process.send_to_group(SIGKILL);  // what is left of it
  if (failed != 0 && failed != ESRCH && !process.reap()) {
    detail::throw_error({failed, std::generic_category()}, "kill " + process.name);
  }
  const Shield shield;  // it is dead, and this does not take long
  return wait();
}

// --- Conversations ---------------------------------------------------------------------------------------------------

namespace {

/// Reads to the end. What has been read is in `into` at any time.
void collect(Stream& from, std::string& into, const CommunicateOptions& options, SubprocessState& process,
             std::size_t& seen, std::error_code& failure) {
  constexpr std::size_t kPiece = 64 * 1024;  // what a pipe holds
  std::vector<std::byte> piece(kPiece);
  std::error_code error;
  while (const std::size_t count = from.read(piece, error)) {
    seen += count;
    const std::size_t room = options.output_max - std::min(options.output_max, into.size());
    if (count > room) process.truncated = true;
    into.append(reinterpret_cast<const char*>(piece.data()), std::min(count, room));
  }
  if (error == std::errc::operation_canceled) throw Cancelled{};
  if (error && !failure) failure = error;
  from.close();  // a process that goes on writing where nobody can read is to notice
}

/// Writes until all is written or nobody reads it.
void feed(Stream& to, std::string_view input, std::size_t& written) {
  std::error_code error;
  while (written < input.size() && !error) {
    written += to.write(std::as_bytes(std::span(input.substr(written))), error);
  }
  if (error == std::errc::operation_canceled) throw Cancelled{};
}

/// A terminal's other side has no end of its own: a character stands for it.
void end_terminal_input(Stream& terminal) {
  ::termios settings{};
  if (::tcgetattr(terminal.fd(), &settings) != 0) return;
  const auto end = static_cast<std::byte>(settings.c_cc[VEOF]);
  std::error_code error;
  terminal.write_all(std::span(&end, 1), error);
}

struct Done {
  WaitGroup& of;
  ~Done() { of.done(); }
};

}  // namespace

void Subprocess::converse(std::string_view input, const CommunicateOptions& options, Communication& result) {
  SubprocessState& process = state();
  std::error_code failure;
  std::size_t seen = 0;
  WaitGroup readers;
  Scope scope;
  if (process.input || process.input_is_terminal) {
    scope.spawn([&] {
      feed(process.input ? process.input : process.terminal, input, result.input_written);
      if (process.input) {
        process.input.close();
      } else {
        end_terminal_input(process.terminal);
      }
    });
  }
  const auto read_from = [&](Stream& from, std::string& into) {
    if (!from) return;
    readers.add();
    scope.spawn([&] {
      const Done done{readers};
      collect(from, into, options, process, seen, failure);
    });
  };
  read_from(process.output, process.out_kept);
  read_from(process.terminal, process.out_kept);
  read_from(process.errors, process.err_kept);
  wait();
  for (std::size_t before = seen; readers.count() > 0; before = seen) {
    if (readers.wait_for(options.linger) || seen != before) continue;
    result.left_open = true;
    break;
  }
  scope.cancel();
  scope.join();
  if (failure) detail::throw_error(failure, "read what " + process.name + " says");
}

Communication Subprocess::communicate(std::string_view input, const CommunicateOptions& options) {
  SubprocessState& process = state();
  Communication result;
  const auto body = [&] {
    converse(input, options, result);
    result.status = process.status;
  };
  if (options.timeout == Duration::max()) {
    body();
  } else {
    static_cast<void>(move_on_after(options.timeout, body));
  }
  result.out = std::exchange(process.out_kept, {});
  result.err = std::exchange(process.err_kept, {});
  result.truncated = std::exchange(process.truncated, false);
  return result;
}

}  // namespace bight
