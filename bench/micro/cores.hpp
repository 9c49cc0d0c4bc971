// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <cerrno>
#include <system_error>
#include <vector>

namespace bench::micro {

/// Where two threads or processes run. One core: a wake-up is a switch between them. Two: it is an interrupt of another
/// core, which on a virtual machine may mean the hypervisor.
enum class Cores { one, two };

[[nodiscard]] inline std::vector<int> allowed_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0)
    throw std::system_error(errno, std::generic_category(), "affinity");
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

/// The calling thread, and the threads and processes that it starts from now on.
inline void keep_to(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

}  // namespace bench::micro
