// SPDX-License-Identifier: Apache-2.0
#include <bight/process_lock.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <utility>

#include <bight/check.hpp>
#include <bight/cross_thread_mutex.hpp>
#include <bight/error.hpp>
#include <bight/shared_memory.hpp>

#include "descriptor_wait.hpp"
#include "per_process.hpp"
#include "process_identity.hpp"
#include "token.hpp"

// The lock is one word in shared memory:
//
//     free        0
//     owned       the owner's id, and kContended if a process may be waiting
//     poisoned    kPoisoned and the pid of an owner that has died
//
// and a token, an eventfd that all processes have, which says "look again". In each process one fiber or thread at a
// time takes part, the one that has the process's gate (a CrossThreadMutex, first come, first served); it keeps the
// gate while the process owns the word.
//
//     lock      free -> owned.  Else: mark it contended, wait for the token or for the owner's end (its pidfd), look
//     again.
//               Who takes it after having waited marks it contended: others may wait, too.
//     unlock    owned -> free.  If it was contended: post the token.
//     death     who finds the owner dead: owned -> poisoned, post the token. One of those who find it succeeds.
//     repair    poisoned -> owned.
//
// The token is a level: it stays readable until it is taken, and all who wait see it. It is taken by who has got the
// word (who holds it need not be told), and by who looked, in vain, at a word that is owned: that owner will post
// another one, for the word is marked contended again before the next wait.
//
// Where SIGKILL may come:
//   * owning the word, at whatever instruction: those who wait watch the owner, and find it dead. Those who still watch
//   an
//     earlier owner look again after process_lock_recheck.
//   * in unlock, after the word is free and before the token is posted: those who wait watch this very process, wake,
//   and
//     find the word free. (Watching an earlier one: process_lock_recheck.)
//   * waiting: nothing in the shared memory knows who waits. The mark it leaves costs one token too many.
//   * after it took the token in vain, before it looked again: the word may have become free in between, and the token
//   of
//     that been taken: process_lock_recheck.
//   * between poisoning the word and the token: those who wait watch the dead owner, or process_lock_recheck.
//   * repairing: as owner.
// So there is no instruction at which more than process_lock_recheck is lost, and none at which the lock is.

namespace bight {
namespace {

using detail::ProcessId;

constexpr ProcessId kContended = ProcessId{1} << detail::kPidBits;
constexpr ProcessId kPoisoned = ProcessId{2} << detail::kPidBits;
static_assert(((kContended | kPoisoned) & detail::kIdMask) == 0);

/// A lock that is held for longer than this is worth the price of watching its owner.
constexpr Duration kWatchAfter = std::chrono::milliseconds(2);

enum class Taken : unsigned char { no, yes, after_death };

}  // namespace

OwnerDied::OwnerDied(pid_t owner)
    : std::runtime_error("process " + std::to_string(owner) +
                         " has died while it owned a ProcessLock, and nobody has repaired what it protects"),
      owner_(owner) {}

struct ProcessLock::Impl {
  Impl() : memory(sizeof(std::atomic<ProcessId>)) {}

  [[nodiscard]] std::atomic<ProcessId>& word() const noexcept { return memory.as<std::atomic<ProcessId>>(); }
  [[nodiscard]] bool try_take(ProcessId seen, ProcessId wanted) const noexcept {
    return word().compare_exchange_strong(seen, wanted);
  }
  [[nodiscard]] Taken take(TimePoint until, bool despite_death);
  [[nodiscard]] bool wait(detail::WatchedProcess& watched, TimePoint until) const;

  SharedMemory memory;
  detail::Token token;
  detail::PerProcess<CrossThreadMutex> gate;
  pid_t died = 0;  // whom the one that repairs has taken it from
};

/// Until the token is there (true), the owner watched has ended, or it is time to look anyway.
bool ProcessLock::Impl::wait(detail::WatchedProcess& watched, TimePoint until) const {
  std::error_code error;
  bool posted = false;
  if (watched.fd) {
    const detail::ReadyOne ready = detail::wait_readable_either(token.fd(), watched.fd.get(), until);
    error = ready.error;
    posted = ready.which == 0;
    watched.ended = ready.which == 1;
  } else {
    error = detail::wait_readable_once(token.fd(), until);
    posted = !error;
  }
  if (error && error != std::errc::timed_out) {
    detail::throw_error(error, detail::in_simulated_world()
                                   ? "wait for a ProcessLock: a simulated world has no other processes"
                                   : "wait for a ProcessLock");
  }
  return posted;
}

/// Takes the word for this process. `no`: the limit has passed. Throws OwnerDied, unless `despite_death`.
Taken ProcessLock::Impl::take(TimePoint until, bool despite_death) {
  const ProcessId self = detail::this_process();
  if (try_take(0, self)) return Taken::yes;
  const bool waits = until != TimePoint::min();
  bool posted = false;
  bool watching = !waits || detail::in_simulated_world();  // else not before it has taken some time
  detail::WatchedProcess watched;
  ProcessId watched_id = 0;
  for (;;) {
    const ProcessId seen = word().load();
    const bool poisoned = (seen & kPoisoned) != 0;
    if (seen == 0 || (poisoned && despite_death)) {
      if (!try_take(seen, self | kContended)) continue;
      if (posted) token.take();
      if (seen == 0) return Taken::yes;
      died = detail::pid_of(seen);
      return Taken::after_death;
    }
    if (poisoned) throw OwnerDied(detail::pid_of(seen));
    if (std::exchange(posted, false)) {
      token.take();
      continue;
    }
    const ProcessId owner = seen & detail::kIdMask;
    if (watching && (owner != watched_id || !watched.fd)) watched = detail::watch_process(watched_id = owner);
    if (watched.ended && owner == watched_id) {
      if (try_take(seen, kPoisoned | (seen & detail::kPidMask))) token.post();
      continue;
    }
    if (!waits || (until != TimePoint::max() && until <= now())) return Taken::no;
    if ((seen & kContended) == 0 && !try_take(seen, seen | kContended)) continue;
    const Duration patience = watching ? process_lock_recheck : kWatchAfter;
    posted = wait(watched, std::min(until, detail::saturating_add(now(), patience)));
    watching = !posted;
    if (!watching) watched = {};
  }
}

ProcessLock::ProcessLock() : impl_(std::make_unique<Impl>()) {}

ProcessLock::~ProcessLock() {
  BIGHT_CHECK(impl_->word().load() == 0 || owner() != detail::pid_of(detail::this_process()),
              "a ProcessLock ends while this process owns it");
}

bool ProcessLock::lock_until(TimePoint until) {
  CrossThreadMutex& gate = impl_->gate.get();
  if (until == TimePoint::min() ? !gate.try_lock() : !gate.try_lock_until(until)) return false;
  std::unique_lock held(gate, std::adopt_lock);
  if (impl_->take(until, false) == Taken::no) return false;
  static_cast<void>(held.release());
  return true;
}

bool ProcessLock::lock_despite_death() {
  CrossThreadMutex& gate = impl_->gate.get();
  gate.lock();
  std::unique_lock held(gate, std::adopt_lock);
  const Taken taken = impl_->take(TimePoint::max(), true);
  static_cast<void>(held.release());
  return taken == Taken::after_death;
}

void ProcessLock::unlock() noexcept {
  const ProcessId seen = impl_->word().load();
  BIGHT_CHECK((seen & kPoisoned) == 0 && (seen & detail::kIdMask) == detail::this_process(),
              "a ProcessLock is unlocked by a process that does not own it");
  if ((impl_->word().exchange(0) & kContended) != 0) impl_->token.post();
  impl_->gate.get().unlock();
}

void ProcessLock::give_up_repair() noexcept {
  impl_->word().store(kPoisoned | static_cast<ProcessId>(impl_->died));
  impl_->token.post();
  impl_->gate.get().unlock();
}

pid_t ProcessLock::owner() const noexcept {
  const ProcessId seen = impl_->word().load();
  return (seen & kPoisoned) != 0 ? 0 : detail::pid_of(seen);
}

}  // namespace bight
