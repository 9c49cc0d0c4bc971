// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

#include <bight/fd.hpp>

namespace bight::detail {

/// In the environment of a program that is to take over from a running one: the latter's process number, the descriptor
/// to tell it at that all is up, and the sockets: "4711;5;6=0.0.0.0:8080;7=[::]:8080".
inline constexpr const char* kHandoverVariable = "BIGHT_HANDOVER";

/// Whom this program takes over from. pid 0: nobody.
struct Predecessor {
  pid_t pid = 0;
  Fd ready;
};
[[nodiscard]] Predecessor& predecessor();

struct OfferedSocket {
  std::string name;
  int fd;
};
[[nodiscard]] const std::vector<OfferedSocket>& offered_sockets();

/// Those that have come and that nobody wants are closed. Returns how many.
std::size_t close_untaken_sockets();

}  // namespace bight::detail
