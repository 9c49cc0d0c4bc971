// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace bight::detail {

/// write(2) that raises no SIGPIPE: what MSG_NOSIGNAL is to sockets, for everything else. The process's disposition of
/// the signal is left alone, as it belongs to the program.
[[nodiscard]] ::ssize_t quiet_write(int fd, const void* data, std::size_t size) noexcept;

/// splice(2) at once (SPLICE_F_NONBLOCK), from and to the descriptors' own places, that raises no SIGPIPE either.
[[nodiscard]] ::ssize_t quiet_splice(int from, int to, std::size_t size) noexcept;

}  // namespace bight::detail
