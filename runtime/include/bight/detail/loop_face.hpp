// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bight::detail {

struct FiberControl;

/// What inlined code may see of the thread's loop, so that a lock that is free costs no call.
struct LoopFace {
  FiberControl* running_fiber = nullptr;  // null outside fibers
  std::uint64_t serial = 0;               // no two loops of a process have the same; 0: there is none
};

/// Stands for "no loop on this thread", so that who looks need not test for null. Never written to.
inline constinit LoopFace no_loop;

/// The calling thread's loop. Fibers never move between threads, so its address may be kept over a wait.
extern thread_local constinit LoopFace* current_loop [[gnu::tls_model("initial-exec")]];

}  // namespace bight::detail
