// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_directory.hpp"

#include <utility>

namespace bight::detail {

SimInode* SimDirectory::find(std::string_view name) const noexcept {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : found->second.node;
}

SimDirectory::Entry SimDirectory::next(std::uint64_t from) const noexcept {
  const auto found = places_.lower_bound(from);
  if (found == places_.end()) return {};
  return {found->second->first, found->second->second.node, found->first};
}

void SimDirectory::put(std::string_view name, SimInode& node) {
  const auto found = names_.find(name);
  if (found != names_.end()) {
    found->second.node = &node;
    return;
  }
  const std::uint64_t place = free_place(name);
  const auto put = names_.emplace(std::string(name), Named{&node, place}).first;
  places_.emplace(place, put);
}

void SimDirectory::remove(std::string_view name) noexcept {
  const auto found = names_.find(name);
  if (found == names_.end()) return;
  places_.erase(found->second.place);
  names_.erase(found);
}

void SimDirectory::clear() noexcept {
  places_.clear();
  names_.clear();
}

/// FNV-1a, then the first place behind it that is free. Places fit an off_t.
std::uint64_t SimDirectory::free_place(std::string_view name) const noexcept {
  std::uint64_t hash = 0xcbf29ce484222325 ^ salt_;
  for (const char letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  std::uint64_t place = kFirstPlace + (hash >> 2U);
  while (places_.count(place) != 0) ++place;
  return place;
}

}  // namespace bight::detail
