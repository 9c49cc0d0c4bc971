// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <bight/fd.hpp>

/// Listening sockets that come from before this program and go on after it: passed by a service manager (systemd's
/// socket activation: LISTEN_FDS), or from program to program in a binary upgrade of run_shards. For code that makes
/// listeners, as net::ShardedListener does: it first asks whether there is one already, and offers what it has made.
///
/// For the main thread, before there are loops or other threads: what the environment says is read at the first call
/// and removed from it, so that programs started from here do not take it for theirs.
namespace bight::passed_sockets {

/// A socket that came with this name: the one it was offered with, or systemd's FileDescriptorName=. No descriptor if
/// there is none (any more). It is the caller's from now on; close-on-exec is set.
[[nodiscard]] Fd take(std::string_view name);
/// The first one of systemd's that `fits`.
[[nodiscard]] Fd take_if(const std::function<bool(int fd)>& fits);

/// The next program is to have this socket under this name, which it will ask for. The descriptor stays the caller's;
/// before it is closed, withdraw() it.
void offer(std::string name, int fd);
void withdraw(int fd) noexcept;

}  // namespace bight::passed_sockets
