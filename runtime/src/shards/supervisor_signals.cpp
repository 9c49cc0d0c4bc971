// SPDX-License-Identifier: Apache-2.0
#include "shards/supervisor_signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace bight::detail {

SupervisorSignals::SupervisorSignals() {
  ::sigemptyset(&mask_);
  for (const int number : {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGCHLD})
    ::sigaddset(&mask_, number);
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

// What came too late to be heeded would otherwise do what it does by default: end the process.
SupervisorSignals::~SupervisorSignals() {
  static_cast<void>(take());
  restore();
}

void SupervisorSignals::restore() const noexcept {
  ::sigaction(SIGCHLD, &child_before_, nullptr);
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
}

std::uint64_t SupervisorSignals::take() const noexcept {
  std::uint64_t signals = 0;
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    signals |= std::uint64_t{1} << info.ssi_signo;
  }
  return signals;
}

}  // namespace bight::detail
