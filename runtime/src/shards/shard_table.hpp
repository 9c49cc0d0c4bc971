// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <bight/detail/shard_counters.hpp>
#include <bight/stats.hpp>

namespace bight::detail {

inline constexpr std::size_t kUserCounters = 16;

/// What a worker process is doing, as its supervisor sees it.
enum class WorkerState : std::uint32_t { none, starting, ready, leaving };

/// One worker's part of the memory that all processes of run_shards share. Each member has one writer: the worker, or
/// where said the supervisor. Whoever else reads does so at any moment.
struct alignas(64) WorkerSlot {
  ShardCounters counters;  // requests_max: the supervisor
  /// The loop's pulse: odd while it runs fibers, even while it waits for the system, another number with each turn. 0:
  /// there is no loop yet.
  alignas(64) std::atomic<std::uint64_t> beat{0};
  std::atomic<bool> ready{false};
  std::atomic<bool> wants_successor{false};
  std::array<std::atomic<std::uint64_t>, kUserCounters> user{};

  // The supervisor's:
  alignas(64) std::atomic<WorkerState> state{WorkerState::none};
  std::atomic<bool> retiring{false};

  /// Of the worker's loop, at most a tenth of a second old while it turns. Plain: what tears is a statistic.
  alignas(64) LoopStats loop{};

  void clear() noexcept;
};

/// The memory itself: an anonymous shared mapping, so it is gone with the last process. Made by the supervisor before
/// it forks. Pages that nobody touches take no memory, so there are plenty of slots.
class ShardTable {
 public:
  /// Throws std::system_error.
  explicit ShardTable(std::size_t slots);
  ~ShardTable();
  ShardTable(const ShardTable&) = delete;
  ShardTable& operator=(const ShardTable&) = delete;

  /// An unused slot, cleared; null: all are in use. It is used until its state is none again.
  [[nodiscard]] WorkerSlot* take() noexcept;
  /// The worker is gone; what it has counted is added to the sums of those that are.
  void give_back(WorkerSlot& slot) noexcept;

  struct Sums {
    std::uint64_t accepted = 0;
    std::uint64_t requests = 0;
    std::array<std::uint64_t, kUserCounters> user{};
    void add(const WorkerSlot& slot) noexcept;
  };
  [[nodiscard]] const Sums& gone() const noexcept { return gone_; }

  /// Written by workers to have the supervisor look: an eventfd.
  [[nodiscard]] int bell() const noexcept { return bell_; }
  void ring() const noexcept;
  void silence() const noexcept;

  /// This process is the worker of `slot`: this_shard is about it.
  void enter(WorkerSlot& slot, std::uint64_t requests_max) noexcept;
  [[nodiscard]] bool has_more_than_its_share(const WorkerSlot& mine) const noexcept;

 private:
  WorkerSlot* slots_ = nullptr;
  std::size_t count_;
  std::atomic<std::size_t>* used_ = nullptr;  // slots beyond have never been used; in the mapping, too
  Sums gone_;
  int bell_ = -1;
};

/// The slot of this worker process; null elsewhere.
[[nodiscard]] WorkerSlot* own_slot() noexcept;

}  // namespace bight::detail
