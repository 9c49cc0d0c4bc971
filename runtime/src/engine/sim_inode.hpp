// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/sim_content.hpp"
#include "engine/sim_directory.hpp"

namespace bight::detail {

struct SimDescription;

/// Nanoseconds since the epoch, whose second 1 is the world's first.
using SimFileTime = std::int64_t;

/// A simulated file of any kind: what names and descriptors stand for.
struct SimInode {
  SimInode(std::uint64_t nth, ::mode_t with, SimSpace& space, std::uint64_t salt)
      : number(nth), mode(with), content(space), names(salt) {}

  [[nodiscard]] bool is_directory() const noexcept { return S_ISDIR(mode); }
  [[nodiscard]] bool is_regular() const noexcept { return S_ISREG(mode); }
  [[nodiscard]] bool is_symlink() const noexcept { return S_ISLNK(mode); }

  const std::uint64_t number;
  ::mode_t mode;
  unsigned owner = 0;
  unsigned group = 0;
  unsigned links = 0;
  unsigned opens = 0;     // descriptions
  bool linkable = true;   // false: made by O_TMPFILE with O_EXCL
  bool nameless = false;  // made by O_TMPFILE, and not linked yet
  SimFileTime accessed = 0;
  SimFileTime modified = 0;
  SimFileTime changed = 0;
  SimFileTime born = 0;

  SimContent content;  // regular files
  std::string target;  // symbolic links

  // Directories.
  SimDirectory names;
  std::map<std::string, SimInode*, std::less<>> names_on_disk;
  SimInode* parent = nullptr;  // itself, for the root; the last one it had, once it is removed
  bool removed = false;

  std::vector<const SimDescription*> shared_locks;  // flock(2)
  const SimDescription* exclusive_lock = nullptr;

  bool reached = false;  // see SimInodes::sweep
};

/// All the files there are. Their memory is swept now and then: only whoever knows all that refers to them can tell
/// which are still needed.
class SimInodes {
 public:
  explicit SimInodes(std::uint64_t salt) noexcept : salt_(salt) {}

  SimInode& make(::mode_t mode, SimSpace& space);
  [[nodiscard]] bool worth_sweeping() const noexcept { return all_.size() >= sweep_at_; }
  /// Frees what can not be reached from the roots by any name, present or on disk, nor as somebody's parent.
  void sweep(std::vector<SimInode*> roots);
  [[nodiscard]] std::size_t count() const noexcept { return all_.size(); }

 private:
  std::uint64_t salt_;
  std::uint64_t last_number_ = 1;  // the root's is 2, as on ext4
  std::size_t sweep_at_ = 1024;
  std::vector<std::unique_ptr<SimInode>> all_;
};

}  // namespace bight::detail
