// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

#include "child.hpp"

namespace bight::test {

/// What the child exits with where the system allows no namespaces, or has no ip(8).
inline constexpr int kNoNamespace = 77;

/// Fails the child of in_namespace(), in which no GoogleTest assertion works.
inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("not so: " + what);
}

namespace detail {

inline bool write_file(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  return file.good();
}

/// As root, or as an ordinary user who is root in a user namespace of its own.
inline bool enter_namespace() {
  if (::geteuid() == 0) return ::unshare(CLONE_NEWNET) == 0;
  const ::uid_t user = ::geteuid();
  const ::gid_t group = ::getegid();
  return ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 && write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", "0 " + std::to_string(user) + " 1") &&
         write_file("/proc/self/gid_map", "0 " + std::to_string(group) + " 1");
}

}  // namespace detail

/// Runs `body` in a forked child that has a network of its own, where nothing but `lo` is and that is down; before, the
/// commands of `setup` (a shell's, which are to use ip(8)). Not inside a loop.
template <class Body>
[[nodiscard]] Ended in_namespace(const std::string& setup, Body&& body) {
  return in_child([&] {
    if (!detail::enter_namespace()) return kNoNamespace;
    const std::string all =
        "set -e; PATH=$PATH:/sbin:/usr/sbin; ip link set lo up; " + (setup.empty() ? "true" : setup);
    if (std::system(("{ " + all + "; } >/dev/null").c_str()) != 0) return kNoNamespace;
    body();
    return 0;
  });
}

}  // namespace bight::test
