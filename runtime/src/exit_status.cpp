// SPDX-License-Identifier: Apache-2.0
#include <bight/exit_status.hpp>

#include <sys/wait.h>

#include <bight/signal.hpp>

namespace bight {

ExitStatus ExitStatus::from_wait(int status) noexcept {
  if (WIFEXITED(status)) return exited(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return killed(WTERMSIG(status), WCOREDUMP(status));
  return {};
}

ExitStatus ExitStatus::from_wait(const siginfo_t& info) noexcept {
  switch (info.si_code) {
    case CLD_EXITED: return exited(info.si_status);
    case CLD_KILLED: return killed(info.si_status);
    case CLD_DUMPED: return killed(info.si_status, true);
    default: return {};
  }
}

std::string ExitStatus::to_string() const {
  switch (how_) {
    case How::exited: return "exited with " + std::to_string(number_);
    case How::killed: return "killed by " + signal_name(number_) + (core_dumped_ ? " (core dumped)" : "");
    case How::unknown: break;
  }
  return "ended, nobody knows how";
}

}  // namespace bight
