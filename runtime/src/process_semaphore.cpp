// SPDX-License-Identifier: Apache-2.0
#include <bight/process_semaphore.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>

#include <bight/check.hpp>
#include <bight/cross_thread_mutex.hpp>
#include <bight/error.hpp>
#include <bight/process_lock.hpp>
#include <bight/shared_memory.hpp>

#include "brief_lock.hpp"
#include "descriptor_wait.hpp"
#include "per_process.hpp"
#include "process_table.hpp"
#include "token.hpp"

// There is no count of free permits that could be wrong: it is what the table says that the processes do not hold, and
// each of them changes its own number in the table by one store, under a ProcessLock. So an owner of that lock who is
// killed has left nothing to be mended.
//
// Who waits has said so (`waiting`), under the lock, before; who releases and finds that said posts a token. Who gets a
// permit after having waited says it again, and posts another token if there is another permit, since others may wait.
// One who is killed with a token taken, or before it is posted, delays others by process_semaphore_recheck; and as
// often do those who wait look for permits of the dead.

namespace bight {
namespace {

struct Shared {
  std::atomic<std::uint64_t> lost;
  std::atomic<bool> waiting;
};
constexpr std::size_t kTableOffset = 64;
static_assert(sizeof(Shared) <= kTableOffset);

}  // namespace

struct ProcessSemaphore::Impl {
  Impl(std::size_t how_many, std::size_t processes)
      : permits(how_many),
        memory(kTableOffset + detail::ProcessTable::bytes_for(processes)),
        table({&memory.as<detail::ProcessTable::Slot>(kTableOffset), processes}) {}

  [[nodiscard]] Shared& shared() const noexcept { return memory.as<Shared>(); }
  [[nodiscard]] bool try_take(bool has_waited);

  std::size_t permits;
  SharedMemory memory;
  detail::ProcessTable table;
  ProcessLock lock;
  detail::Token token;
  detail::PerProcess<CrossThreadMutex> gate;  // one of each process waits at a time
};

bool ProcessSemaphore::Impl::try_take(bool has_waited) {
  const detail::BriefLock held(lock);
  std::uint64_t taken = table.total();
  if (taken >= permits) {
    shared().lost += table.reap();
    taken = table.total();
  }
  if (taken >= permits) {
    shared().waiting = true;
    return false;
  }
  detail::ProcessTable::Slot* mine = table.mine();
  if (mine == nullptr) {
    throw std::system_error(std::make_error_code(std::errc::no_buffer_space),
                            "acquire a ProcessSemaphore: more processes than it was made for hold permits");
  }
  ++mine->held;
  if (has_waited) {
    shared().waiting = true;
    if (taken + 1 < permits) token.post();
  }
  return true;
}

ProcessSemaphore::ProcessSemaphore(std::size_t permits, std::size_t processes_max)
    : impl_(std::make_unique<Impl>(permits, processes_max)) {
  BIGHT_CHECK(permits > 0, "a ProcessSemaphore without permits would never let anybody in");
}

ProcessSemaphore::~ProcessSemaphore() = default;

bool ProcessSemaphore::acquire_until(TimePoint until) {
  CrossThreadMutex& gate = impl_->gate.get();
  if (until == TimePoint::min() ? !gate.try_lock() : !gate.try_lock_until(until)) return false;
  const std::unique_lock held(gate, std::adopt_lock);
  for (bool has_waited = false;; has_waited = true) {
    if (impl_->try_take(has_waited)) return true;
    if (until == TimePoint::min() || (until != TimePoint::max() && until <= now())) return false;
    const TimePoint next = std::min(until, detail::saturating_add(now(), process_semaphore_recheck));
    const std::error_code error = detail::wait_readable_once(impl_->token.fd(), next);
    if (!error) {
      impl_->token.take();
    } else if (error != std::errc::timed_out) {
      detail::throw_error(error, detail::in_simulated_world()
                                     ? "wait for a ProcessSemaphore: a simulated world has no other processes"
                                     : "wait for a ProcessSemaphore");
    }
  }
}

void ProcessSemaphore::release() {
  bool somebody_waits = false;
  {
    const detail::BriefLock held(impl_->lock);
    detail::ProcessTable::Slot* mine = impl_->table.mine();
    BIGHT_CHECK(mine != nullptr && mine->held > 0, "a ProcessSemaphore is released by a process that holds no permit");
    --mine->held;
    somebody_waits = impl_->shared().waiting.exchange(false);
  }
  if (somebody_waits) impl_->token.post();
}

std::size_t ProcessSemaphore::available() const noexcept {
  return impl_->permits - std::min<std::size_t>(impl_->table.total(), impl_->permits);
}

std::uint64_t ProcessSemaphore::lost_permits() const noexcept { return impl_->shared().lost; }

}  // namespace bight
