// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/loop_bound.hpp>

#include <algorithm>
#include <mutex>
#include <vector>

#include <bight/check.hpp>

#include "fork_guard.hpp"

namespace bight::detail {

thread_local constinit LoopFace* current_loop = &no_loop;

namespace {

/// Under fork_mutex(): a child forked while another thread's loop begins or ends still has to ask.
struct LivingLoops {
  std::vector<std::uint64_t> serials;
  std::uint64_t last = 0;
};

LivingLoops& living_loops() {
  static auto* loops = new LivingLoops;  // never destroyed: objects that end with the process still ask
  return *loops;
}

bool lives(std::uint64_t serial) noexcept {
  LivingLoops& loops = living_loops();
  const std::lock_guard lock(fork_mutex());
  return std::find(loops.serials.begin(), loops.serials.end(), serial) != loops.serials.end();
}

}  // namespace

void LoopBound::adopt() const noexcept {
  if (serial_ != kNobody) {
    BIGHT_CHECK(!lives(serial_),
                "this object belongs to the loop of another thread (or of the process that this one was forked from): "
                "use what is made to be shared, as SharedChannel is, or Remote::post");
  }
  serial_ = current_loop->serial != 0 ? current_loop->serial : kNobody;
}

LoopSerial::LoopSerial() {
  LivingLoops& loops = living_loops();
  const std::lock_guard lock(fork_mutex());
  loops.serials.push_back(loops.last + 1);
  serial_ = ++loops.last;
}

LoopSerial::~LoopSerial() {
  LivingLoops& loops = living_loops();
  const std::lock_guard lock(fork_mutex());
  std::erase(loops.serials, serial_);
}

}  // namespace bight::detail
