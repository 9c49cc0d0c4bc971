// SPDX-License-Identifier: Apache-2.0
#include "shards/shard_table.hpp"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>

#include <bight/this_shard.hpp>

namespace bight {
namespace detail {
namespace {

constinit ShardCounters nobodys_counters;
constinit std::atomic<std::uint64_t> nobodys_counter{0};

// Of this process, if it is a worker.
ShardTable* own_table = nullptr;
WorkerSlot* own = nullptr;

/// A process that the worker forks is none: the slot may be another worker's before it ends.
void leave() noexcept {
  own = nullptr;
  own_table = nullptr;
  shard_counters = &nobodys_counters;
}

}  // namespace

constinit ShardCounters* shard_counters = &nobodys_counters;

void WorkerSlot::clear() noexcept {
  for (auto* each : {&counters.connections_open, &counters.accepted, &counters.requests, &counters.requests_max, &beat})
    each->store(0, std::memory_order_relaxed);
  for (auto& each : user) each.store(0, std::memory_order_relaxed);
  ready.store(false, std::memory_order_relaxed);
  wants_successor.store(false, std::memory_order_relaxed);
  retiring.store(false, std::memory_order_relaxed);
  loop = LoopStats{};
}

void ShardTable::Sums::add(const WorkerSlot& slot) noexcept {
  accepted += slot.counters.accepted.load(std::memory_order_relaxed);
  requests += slot.counters.requests.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < user.size(); ++i) user[i] += slot.user[i].load(std::memory_order_relaxed);
}

ShardTable::ShardTable(std::size_t slots) : count_(slots) {
  const std::size_t size = (slots + 1) * sizeof(WorkerSlot);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "share memory with shards: mmap");
  used_ = ::new (memory) std::atomic<std::size_t>(0);
  slots_ = static_cast<WorkerSlot*>(memory) + 1;
  bell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell_ < 0) {
    const int error = errno;
    ::munmap(memory, size);
    throw std::system_error(error, std::generic_category(), "supervise shards: eventfd");
  }
}

ShardTable::~ShardTable() {
  ::munmap(slots_ - 1, (count_ + 1) * sizeof(WorkerSlot));
  ::close(bell_);
}

WorkerSlot* ShardTable::take() noexcept {
  const std::size_t used = used_->load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < used; ++i) {
    if (slots_[i].state.load(std::memory_order_relaxed) != WorkerState::none) continue;
    slots_[i].clear();
    return &slots_[i];
  }
  if (used == count_) return nullptr;
  auto* slot = ::new (slots_ + used) WorkerSlot;
  used_->store(used + 1, std::memory_order_release);
  return slot;
}

void ShardTable::give_back(WorkerSlot& slot) noexcept {
  gone_.add(slot);
  slot.state.store(WorkerState::none, std::memory_order_relaxed);
}

void ShardTable::ring() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(bell_, &one, sizeof one);
}

void ShardTable::silence() const noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto taken = ::read(bell_, &count, sizeof count);
}

void ShardTable::enter(WorkerSlot& slot, std::uint64_t requests_max) noexcept {
  slot.counters.requests_max.store(requests_max, std::memory_order_relaxed);
  own_table = this;
  own = &slot;
  shard_counters = &slot.counters;
  ::pthread_atfork(nullptr, nullptr, leave);
}

// At most a sixteenth above the mean: with 1000 connections that is far from a fifth, while ordinary coming and going
// keeps nobody from accepting. Those that leave, or have not come to accepting yet, are not counted.
bool ShardTable::has_more_than_its_share(const WorkerSlot& mine) const noexcept {
  constexpr std::uint64_t kMarginPart = 16;
  const std::size_t used = used_->load(std::memory_order_acquire);
  std::uint64_t open = 0;
  std::uint64_t workers = 0;
  for (std::size_t i = 0; i < used; ++i) {
    if (slots_[i].state.load(std::memory_order_relaxed) != WorkerState::ready) continue;
    ++workers;
    open += slots_[i].counters.connections_open.load(std::memory_order_relaxed);
  }
  if (workers < 2) return false;
  const std::uint64_t margin = std::max(workers, open / kMarginPart);  // one connection, at least; times workers, too
  return mine.counters.connections_open.load(std::memory_order_relaxed) * workers > open + margin;
}

WorkerSlot* own_slot() noexcept { return own; }

void ask_for_replacement() noexcept {
  if (own == nullptr || own->wants_successor.exchange(true, std::memory_order_relaxed)) return;
  own_table->ring();
}

}  // namespace detail

namespace this_shard {

bool exists() noexcept { return detail::own != nullptr; }

void ready() noexcept {
  if (detail::own == nullptr || detail::own->ready.load(std::memory_order_relaxed)) return;
  if (!detail::own->ready.exchange(true)) detail::own_table->ring();
}

bool is_retiring() noexcept { return detail::own != nullptr && detail::own->retiring.load(std::memory_order_relaxed); }

bool has_more_than_its_share() noexcept {
  return detail::own != nullptr && detail::own_table->has_more_than_its_share(*detail::own);
}

std::atomic<std::uint64_t>& counter(std::size_t place) noexcept {
  return detail::own != nullptr && place < detail::kUserCounters ? detail::own->user[place] : detail::nobodys_counter;
}

}  // namespace this_shard
}  // namespace bight
