// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace bight::detail {

/// How a process ended, from waitpid(2)'s status, in words that follow a name: "was killed by SIGSEGV (core dumped)",
/// "ended with status 3". `sent`: a signal of our own that was to end it, or 0; a SIGKILL that was not ours is nearly
/// always the kernel's, for want of memory, and that is said.
[[nodiscard]] std::string describe_death(int status, int sent);

}  // namespace bight::detail
