// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>

namespace bight::detail {

/// Has `forget` run in every child process forked from now on by this thread's process (once; later calls with the same
/// purpose are ignored). A loop in a forked child would share its ring and its epoll set with the parent, so the child
/// must not see it.
void forget_loop_in_forked_children(void (*forget)()) noexcept;

/// How many forks lie between this process and the first that asked. What counts threads is to be made anew when it has
/// changed, for in a forked child they are not there.
[[nodiscard]] std::uint32_t forks_so_far() noexcept;

/// Held by every fork(2): what is changed under it is whole in the child, where no other thread is left that could end
/// a change, and it can be locked there. For the few things of the runtime that a child must be able to read.
[[nodiscard]] std::mutex& fork_mutex() noexcept;

}  // namespace bight::detail
