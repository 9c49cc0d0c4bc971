// SPDX-License-Identifier: Apache-2.0
#include "engine/sim_inode.hpp"

#include <algorithm>
#include <utility>

namespace bight::detail {

SimInode& SimInodes::make(::mode_t mode, SimSpace& space) {
  all_.push_back(std::make_unique<SimInode>(++last_number_, mode, space, salt_));
  return *all_.back();
}

void SimInodes::sweep(std::vector<SimInode*> roots) {
  for (const auto& each : all_) each->reached = false;
  const auto reach = [&roots](SimInode* node) {
    if (node != nullptr && !std::exchange(node->reached, true)) roots.push_back(node);
  };
  const std::vector<SimInode*> first = std::exchange(roots, {});
  for (SimInode* root : first) reach(root);
  while (!roots.empty()) {
    const SimInode& node = *roots.back();
    roots.pop_back();
    reach(node.parent);
    node.names.for_each([&](const std::string&, SimInode& named) { reach(&named); });
    for (const auto& [name, named] : node.names_on_disk) reach(named);
  }
  std::erase_if(all_, [](const auto& each) { return !each->reached; });
  sweep_at_ = std::max<std::size_t>(1024, 2 * all_.size());
}

}  // namespace bight::detail
