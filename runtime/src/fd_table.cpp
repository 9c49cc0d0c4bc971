// SPDX-License-Identifier: Apache-2.0
#include "fd_table.hpp"

#include <mutex>

#include <bight/check.hpp>

#include "fork_guard.hpp"

namespace bight::detail {

FdState& FdTable::open(int fd) {
  const std::size_t block = static_cast<std::size_t>(fd) / kBlock;
  if (block >= blocks_.size() || blocks_[block] == nullptr) add_block(block);
  FdState& state = (*this)[fd];
  BIGHT_CHECK(!state.open,
              "a descriptor was opened that this loop still owns or watches: was it closed behind its back?");
  const std::uint32_t generation = state.generation + 1;
  state = FdState{};
  state.generation = generation;
  state.open = true;
  ++open_;
  return state;
}

FdState& FdTable::watch(int fd) {
  BIGHT_CHECK(fd >= 0, "a negative number is no descriptor to watch");
  const std::size_t block = static_cast<std::size_t>(fd) / kBlock;
  const bool known = block < blocks_.size() && blocks_[block] != nullptr && (*this)[fd].open;
  FdState& state = known ? (*this)[fd] : open(fd);
  if (!known) {
    state.foreign = state.shared = true;
    ++foreign_;
  }
  ++state.watches;
  return state;
}

void FdTable::add_block(std::size_t block) {
  const std::lock_guard lock(fork_mutex());  // a child that another thread forks goes through the table
  if (block >= blocks_.size()) blocks_.resize(block + 1);
  blocks_[block] = std::make_unique<Block>();
}

void FdTable::close(int fd) noexcept {
  FdState& state = (*this)[fd];
  state.open = false;
  state.reader = state.writer = nullptr;  // whoever waited finds out by this
  ++state.generation;
  --open_;
  if (state.foreign) --foreign_;
}

}  // namespace bight::detail
