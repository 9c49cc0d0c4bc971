// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include <bight/exit_status.hpp>

#include "forked_child.hpp"

namespace bight::detail {

/// The end of a child, if it has come, which is then reaped. Unknown if somebody else has reaped it and the kernel does
/// not tell any more. Nothing: it still runs.
[[nodiscard]] std::optional<ExitStatus> reap_child(int pidfd) noexcept;

/// Has a child reaped when it ends, whenever that is, by a thread that is there as long as there are such children.
/// `killed`: it ends at once; without memory or threads it is waited for here.
void bury_later(PrivateFd pidfd, bool killed) noexcept;

}  // namespace bight::detail
