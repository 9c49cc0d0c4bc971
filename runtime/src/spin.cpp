// SPDX-License-Identifier: Apache-2.0
#include "spin.hpp"

#include <sched.h>

namespace bight::detail {

bool can_spin() noexcept {
  // Asked once: it is a matter of the machine or the container, and costs a system call.
  static const bool several = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    return ::sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) > 1;
  }();
  return several;
}

}  // namespace bight::detail
