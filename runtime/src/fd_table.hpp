// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <bight/time.hpp>

#include "engine/op.hpp"

namespace bight::detail {

/// What the loop knows of one descriptor. Never moves, so that a Socket may while fibers wait on it.
struct alignas(64) FdState {  // a line each
  Op* reader = nullptr;       // the operation under way in each direction: there is one at most
  Op* writer = nullptr;
  Duration read_timeout{0};
  Duration write_timeout{0};
  void* engine_data = nullptr;  // the engine's own
  // Counts the descriptors that have had this number, so that news of an old one can be told.
  std::uint32_t generation = 0;
  bool open = false;
  bool shared = false;     // others (a parent, other shards) may have the same open file: closing ours does not end it
  bool foreign = false;    // only watched; somebody else reads, writes and closes it
  bool datagrams = false;  // each read ends with its message, however much more there is
  // What comes is not to be taken in before it is asked for: it may bring an address, or descriptors, that only a
  // recvmsg(2) gets.
  bool untaken = false;
  bool direct = false;  // the same, for as long as somebody reads by other means: splice(2)
  std::uint8_t engine_flags = 0;  // the engine's own; 0 when the descriptor is opened
  std::uint16_t watches = 0;      // FdWatch objects
};

/// The states of all descriptors, by number, in blocks made when a number in their range is first seen.
class FdTable {
 public:
  /// Throws std::bad_alloc.
  FdState& open(int fd);
  void close(int fd) noexcept;
  /// The state of a descriptor that somebody else owns, with one watch more. Made when there is none yet. Throws
  /// std::bad_alloc.
  FdState& watch(int fd);

  [[nodiscard]] FdState& operator[](int fd) noexcept {
    const auto number = static_cast<std::size_t>(fd);
    return (*blocks_[number / kBlock])[number % kBlock];
  }
  [[nodiscard]] std::size_t open_count() const noexcept { return open_; }
  /// Without those that are only watched.
  [[nodiscard]] std::size_t owned_count() const noexcept { return open_ - foreign_; }
  /// Calls `visit(fd)` for each that is open, and not only watched.
  template <class F>
  void for_each_owned(F&& visit) const {
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      for (std::size_t j = 0; blocks_[i] != nullptr && j < kBlock; ++j) {
        if ((*blocks_[i])[j].open && !(*blocks_[i])[j].foreign) visit(static_cast<int>(i * kBlock + j));
      }
    }
  }

 private:
  void add_block(std::size_t block);

  static constexpr std::size_t kBlock = 256;
  using Block = std::array<FdState, kBlock>;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::size_t open_ = 0;
  std::size_t foreign_ = 0;
};

}  // namespace bight::detail
