// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bight/descriptor.hpp>

#include "engine/file_op.hpp"
#include "engine/op.hpp"
#include "fd_table.hpp"

namespace bight::detail {

/// Carries out `op` on the descriptor of `state` for the running fiber, which waits as long as it takes, or until the
/// descriptor's timeout, a cancellation, or abandon(). Returns the operation's result: as the system call's, or -errno
/// (-ECANCELED, -ETIMEDOUT, -EBADF for those three, and -EBUSY when the direction is taken).
[[nodiscard]] int perform(Op& op, FdState& state, Direction direction);

/// Carries out `op` for the running fiber, on the engine or on a thread of OffloadPool::shared(). Returns its result:
/// as the system call's, or -errno. A fiber that is cancelled gets -ECANCELED if nothing has been done, else what has
/// been.
int perform(FileOp& op) noexcept;

/// The descriptor under a waiting operation (or null) is being closed: the operation ends with -EBADF.
void abandon(Op* op) noexcept;

/// A waiting operation (or null) ends now as if its timeout had passed, with -ETIMEDOUT unless it was faster.
void expire(Op* op) noexcept;

}  // namespace bight::detail
