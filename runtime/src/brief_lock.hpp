// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include <bight/deadline.hpp>
#include <bight/detail/loop_face.hpp>
#include <bight/process_lock.hpp>

namespace bight::detail {

/// A ProcessLock for the length of a block in which nobody waits: so it is soon to be had, and a cancelled fiber gets
/// it, too. `repair` mends what an owner that was killed has left half done.
class BriefLock {
 public:
  template <class Repair>
  BriefLock(ProcessLock& lock, Repair&& repair) : lock_(lock) {
    std::optional<Shield> shield;
    if (current_loop->running_fiber != nullptr) shield.emplace();
    lock_.lock_or_repair(repair);
  }
  explicit BriefLock(ProcessLock& lock) : BriefLock(lock, [] {}) {}
  BriefLock(const BriefLock&) = delete;
  BriefLock& operator=(const BriefLock&) = delete;
  ~BriefLock() { lock_.unlock(); }

 private:
  ProcessLock& lock_;
};

}  // namespace bight::detail
