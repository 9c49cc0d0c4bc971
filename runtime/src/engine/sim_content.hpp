// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <vector>

#include "engine/sim_blocks.hpp"
#include "engine/sim_random.hpp"

namespace bight::detail {

/// The room on a simulated disk. Outlives the contents that take from it.
struct SimSpace {
  [[nodiscard]] std::uint64_t left() const noexcept { return closed || used > capacity ? 0 : capacity - used; }

  std::uint64_t capacity = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t used = 0;
  bool closed = false;  // nothing more is given for now, whatever is left
};

/// How much of what was not synced a power failure leaves.
struct SimSurvival {
  double kept = 0;             // each change: as a whole
  double torn = 0;             // each write that is not: in part
  std::uint64_t sector = 512;  // which is written as a whole or not at all
};

/// What is in a regular file: as everybody sees it, and as the disk has it.
///
/// Between the two are the changes that were not synced. Each of them has reached the disk, or has not, or in part,
/// with no regard to the others: that is found out when the power fails, and not before. The oldest are written back by
/// themselves when there are too many.
class SimContent {
 public:
  explicit SimContent(SimSpace& space) noexcept : space_(&space) {}
  SimContent(const SimContent&) = delete;
  SimContent& operator=(const SimContent&) = delete;
  ~SimContent() { give_back(); }

  [[nodiscard]] const SimBlocks& now() const noexcept { return now_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return now_.size(); }

  /// Writes as much as there is room for. Returns how much that was.
  std::size_t write(std::uint64_t offset, std::span<const std::byte> data);
  void resize(std::uint64_t size);
  void punch(std::uint64_t offset, std::uint64_t length);
  /// False: there is no room for all of it, and nothing has been done.
  [[nodiscard]] bool allocate(std::uint64_t offset, std::uint64_t length, bool grow);

  void sync();
  /// A sync that failed: some of what was to be written has been, and nobody will try the rest again.
  void fail_sync(SimRandom& random, const SimSurvival& survival);
  /// The power fails: from now on there is what the disk has.
  void crash(SimRandom& random, const SimSurvival& survival);
  /// Nobody can see it any more: its room is free, though a power failure may yet bring it back.
  void give_back() noexcept;
  [[nodiscard]] bool synced() const noexcept { return changes_.empty(); }

 private:
  struct Change {
    enum class Kind : std::uint8_t { write, resize, punch, allocate, grow };

    Kind kind;
    std::uint64_t offset;  // resize, grow: the new size
    std::uint64_t length = 0;
    std::vector<std::byte> data{};
  };

  void record(Change change);
  void count_space() noexcept;
  static void apply(SimBlocks& disk, const Change& change);
  static void tear(SimBlocks& disk, const Change& change, SimRandom& random, std::uint64_t sector);
  void settle(SimRandom& random, const SimSurvival& survival);

  SimSpace* space_;
  SimBlocks now_;
  SimBlocks disk_;
  std::deque<Change> changes_;
  std::uint64_t unsynced_bytes_ = 0;
  std::uint64_t counted_ = 0;  // in space_->used
  bool given_back_ = false;
};

}  // namespace bight::detail
