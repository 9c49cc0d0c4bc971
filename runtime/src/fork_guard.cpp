// SPDX-License-Identifier: Apache-2.0
#include "fork_guard.hpp"

#include <pthread.h>

namespace bight::detail {

void forget_loop_in_forked_children(void (*forget)()) noexcept {
  [[maybe_unused]] static const int registered = ::pthread_atfork(nullptr, nullptr, forget);
}

}  // namespace bight::detail
