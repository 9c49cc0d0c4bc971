// SPDX-License-Identifier: Apache-2.0
#include "shards/death.hpp"

#include <sys/wait.h>

#include <csignal>

#include <bight/signal.hpp>

namespace bight::detail {

std::string describe_death(int status, int sent) {
  if (!WIFSIGNALED(status)) return "ended with status " + std::to_string(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
  std::string text = "was killed by " + signal_name(number);
  if (number == SIGKILL && sent != SIGKILL) text += " (out of memory?)";
  if (WCOREDUMP(status)) text += " (core dumped)";
  return text;
}

}  // namespace bight::detail
