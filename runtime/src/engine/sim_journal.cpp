// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_journal.hpp"

#include <algorithm>
#include <utility>

namespace bight::detail {
namespace {

// Beyond this many the older half is written back.
constexpr std::size_t kChangesMost = 1024;

bool contains(const std::vector<SimInode*>& files, const SimInode* file) noexcept {
  return std::find(files.begin(), files.end(), file) != files.end();
}

bool touches(const SimNameChange& change, const SimInode* directory) noexcept {
  return std::any_of(change.names.begin(), change.names.end(),
                     [&](const SimNameChange::Name& each) { return each.directory == directory; });
}

}  // namespace

void SimJournal::record(SimNameChange change) {
  if (changes_.size() >= kChangesMost) {
    std::vector<bool> chosen(changes_.size(), false);
    std::fill_n(chosen.begin(), changes_.size() / 2, true);
    write_back(std::move(chosen));
  }
  changes_.push_back(std::move(change));
}

void SimJournal::sync(const SimInode& directory) {
  std::vector<bool> chosen(changes_.size(), false);
  bool any = false;
  for (std::size_t at = 0; at < changes_.size(); ++at) {
    bool all = true;
    bool here = false;
    for (SimNameChange::Name& name : changes_[at].names) {
      if (name.directory == &directory) name.synced = here = true;
      all = all && name.synced;
    }
    chosen[at] = here && all;
    any = any || chosen[at];
  }
  if (any) write_back(std::move(chosen));
}

void SimJournal::sync_last() {
  if (changes_.empty()) return;
  std::vector<bool> chosen(changes_.size(), false);
  chosen.back() = true;
  write_back(std::move(chosen));
}

void SimJournal::crash(SimRandom& random, double kept) {
  std::vector<bool> arrived(changes_.size(), false);
  for (std::size_t at = 0; at < changes_.size(); ++at) {
    bool possible = true;
    for (std::size_t earlier = 0; earlier < at && possible; ++earlier) {
      const bool needed = builds_on(changes_[at], changes_[earlier]) || is_made_by(changes_[at], changes_[earlier]);
      possible = arrived[earlier] || !needed;
    }
    arrived[at] = possible && random.chance(kept);
    if (arrived[at]) apply(changes_[at]);
  }
  changes_.clear();
}

bool SimJournal::synced(const SimInode& directory) const noexcept {
  return std::none_of(changes_.begin(), changes_.end(),
                      [&](const SimNameChange& each) { return touches(each, &directory); });
}

void SimJournal::collect(std::vector<SimInode*>& into) const {
  for (const SimNameChange& change : changes_) {
    into.insert(into.end(), change.files.begin(), change.files.end());
    for (const SimNameChange::Name& name : change.names) {
      into.push_back(name.directory);
      if (name.node != nullptr) into.push_back(name.node);
    }
  }
}

/// With what they build on. Not with the making of the directory they are in: that is for its own directory to sync.
void SimJournal::write_back(std::vector<bool> chosen) {
  for (std::size_t later = chosen.size(); later-- > 0;) {
    for (std::size_t earlier = 0; chosen[later] && earlier < later; ++earlier) {
      if (builds_on(changes_[later], changes_[earlier])) chosen[earlier] = true;
    }
  }
  std::vector<SimNameChange> left;
  for (std::size_t at = 0; at < changes_.size(); ++at) {
    if (chosen[at]) {
      apply(changes_[at]);
    } else {
      left.push_back(std::move(changes_[at]));
    }
  }
  changes_ = std::move(left);
}

void SimJournal::apply(const SimNameChange& change) {
  for (const SimNameChange::Name& each : change.names) {
    if (each.node == nullptr) each.directory->names_on_disk.erase(each.name);
  }
  for (const SimNameChange::Name& each : change.names) {
    if (each.node != nullptr) each.directory->names_on_disk.insert_or_assign(each.name, each.node);
  }
}

bool SimJournal::builds_on(const SimNameChange& later, const SimNameChange& earlier) noexcept {
  if (later.moves_directory && earlier.moves_directory) return true;
  if (later.removed != nullptr && touches(earlier, later.removed)) return true;
  for (const SimInode* file : later.files) {
    if (contains(earlier.files, file)) return true;
  }
  for (const SimNameChange::Name& name : later.names) {
    for (const SimNameChange::Name& other : earlier.names) {
      if (name.directory == other.directory && name.name == other.name) return true;
    }
  }
  return false;
}

bool SimJournal::is_made_by(const SimNameChange& later, const SimNameChange& earlier) noexcept {
  return earlier.made != nullptr && touches(later, earlier.made);
}

}  // namespace bight::detail
