// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/sim_inode.hpp"
#include "engine/sim_socket.hpp"

namespace bight::detail {

/// What a path leads to.
struct SimPlace {
  enum class Last : std::uint8_t { name, dot, dot_dot, root };  // what its last component is

  Last last = Last::name;
  bool slash = false;             // it ends with one
  int error = 0;                  // of a name that was only to be looked up: can not be anywhere
  SimInode* directory = nullptr;  // where the last name is, or would be
  std::string name;
  SimInode* node = nullptr;  // null: there is none
};

/// How to follow a path.
struct SimWalk {
  /// What becomes of the last component: a link is followed; it is not, unless a slash behind it asks for a directory;
  /// it is only looked up, for somebody to remove or rename it; a file may be made there, with the first or second.
  enum class End : std::uint8_t { follow, keep, look_up, create, create_here };

  End end = End::follow;
  std::uint64_t resolve = 0;  // RESOLVE_… of openat2(2)
};

/// How paths lead to files. All functions return 0 or -errno.
class SimPaths {
 public:
  SimPaths(SimInode& root, const SimDescriptors& descriptors) noexcept
      : descriptors_(descriptors), root_(&root), current_(&root) {}

  [[nodiscard]] SimInode& root() const noexcept { return *root_; }
  [[nodiscard]] SimInode& current() const noexcept { return *current_; }
  void set_current(SimInode& directory) noexcept { current_ = &directory; }

  /// From the current directory, or from that of the descriptor `fd`.
  int walk(int fd, const char* path, SimWalk how, SimPlace& place) const;
  /// The same, to something that has to be there. With AT_EMPTY_PATH among the flags an empty path is the descriptor.
  int find(int fd, const char* path, int flags, SimInode*& node) const;

 private:
  class Walker;

  int start_of(int fd, SimInode*& start) const noexcept;
  int by_descriptor(std::string_view path, SimPlace& place) const;

  const SimDescriptors& descriptors_;
  SimInode* root_;
  SimInode* current_;
};

}  // namespace bight::detail
