// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sim_inode.hpp"
#include "engine/sim_random.hpp"

namespace bight::detail {

/// A change of one, two or four names, which takes effect as a whole.
struct SimNameChange {
  struct Name {
    SimInode* directory;
    std::string name;
    SimInode* node;  // what it stands for from now on; null: nothing
    bool synced = false;
  };

  std::vector<Name> names;
  std::vector<SimInode*> files;  // that got a name, lost one, or exchanged it
  SimInode* made = nullptr;      // the directory that this made
  SimInode* removed = nullptr;   // the directory that had to be empty for it
  bool moves_directory = false;
};

/// The changes of names that are not on the disk for certain.
///
/// The model is the conservative reading of POSIX: a name is as its directory was when that was last synced. Syncing a
/// file does not make its name last; a rename between two directories lasts when both have been synced. A change that
/// was not synced has reached the disk or has not, whole, with no regard to the others but those that it builds on:
/// earlier ones of the same name or of the same file, a directory's making before anything in it, what emptied a
/// directory before its removal, and moves of directories among each other.
class SimJournal {
 public:
  void record(SimNameChange change);
  /// What has been done to the names in this directory is to last.
  void sync(const SimInode& directory);
  /// So is what has been recorded last.
  void sync_last();
  /// The power fails: puts on the disk what has reached it.
  void crash(SimRandom& random, double kept);

  [[nodiscard]] bool synced(const SimInode& directory) const noexcept;
  /// All files that are referred to.
  void collect(std::vector<SimInode*>& into) const;

 private:
  void write_back(std::vector<bool> chosen);
  static void apply(const SimNameChange& change);
  [[nodiscard]] static bool builds_on(const SimNameChange& later, const SimNameChange& earlier) noexcept;
  [[nodiscard]] static bool is_made_by(const SimNameChange& later, const SimNameChange& earlier) noexcept;

  std::vector<SimNameChange> changes_;
};

}  // namespace bight::detail
