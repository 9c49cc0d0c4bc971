// SPDX-License-Identifier: Apache-2.0
#include "process_table.hpp"

// A place is taken by writing the process into it, and comes free when that process has ended: whoever reaps writes
// itself and a mark into it, so that one alone counts what was held; then it clears that, and frees the place. If it is
// killed on the way, the next one does the same to it: what was held is counted late, or (killed between clearing and
// counting) not.

namespace bight::detail {
namespace {

constexpr ProcessId kReaping = ProcessId{1} << kPidBits;

}  // namespace

ProcessTable::Slot* ProcessTable::mine() noexcept {
  const ProcessId self = this_process();
  for (Slot& each : slots_) {
    if (each.process.load() == self) return &each;
  }
  for (int round = 0; round < 2; ++round) {
    for (Slot& each : slots_) {
      ProcessId nobody = 0;
      if (each.process.compare_exchange_strong(nobody, self)) return &each;
    }
    if (round == 0) static_cast<void>(reap());
  }
  return nullptr;
}

std::uint64_t ProcessTable::total() const noexcept {
  std::uint64_t sum = 0;
  for (const Slot& each : slots_) sum += each.held.load();
  return sum;
}

std::uint64_t ProcessTable::reap() noexcept {
  std::uint64_t count = 0;
  for (Slot& each : slots_) {
    ProcessId seen = each.process.load();
    if (seen == 0 || !has_ended(seen & kIdMask)) continue;
    if (!each.process.compare_exchange_strong(seen, this_process() | kReaping)) continue;
    count += each.held.exchange(0);
    each.process.store(0);
  }
  return count;
}

}  // namespace bight::detail
