// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include <bight/detail/callback.hpp>
#include <bight/detail/remote_wake.hpp>

namespace bight::detail {

class Engine;

/// Callbacks and wakes from other threads on their way into a loop. Shared by the loop and all Remotes; outlives
/// either.
///
/// The loop sleeps only after begin_sleep() said that nothing is queued; a post() that comes later finds `sleeping_`
/// set and wakes the engine. Both look at the queue under the mutex, so one of them always sees the other: no wake-up
/// is lost. The engine is woken after the mutex was let go of, or the woken thread would run straight into it.
class RemoteQueue {
 public:
  explicit RemoteQueue(Engine& engine, std::size_t limit = 1'000'000) noexcept : limit_(limit), engine_(&engine) {}

  // Any thread.
  bool post(Callback callback);
  /// Has `wake` delivered. False, and it is not queued, once the loop has ended. Never counts against the limit.
  bool wake(RemoteWake& wake) noexcept;
  void add_user() noexcept { users_.fetch_add(1, std::memory_order_relaxed); }
  void drop_user() noexcept;

  // The loop's thread.

  /// Whether something may be queued: a hint for the loop's every turn, without the lock.
  [[nodiscard]] bool pending() const noexcept { return pending_.load(std::memory_order_relaxed); }
  /// Moves the callbacks that are queued to `into`, which is empty, and returns the wakes, in their order.
  RemoteWake* take(std::vector<Callback>& into) noexcept;
  /// False: do not sleep, something is queued.
  [[nodiscard]] bool begin_sleep() noexcept;
  void end_sleep() noexcept;
  [[nodiscard]] bool has_users() const noexcept { return awaited_ != 0 || users_.load(std::memory_order_acquire) != 0; }
  /// A fiber waits for a wake, so this is no deadlock; until it waits no longer.
  void expect_wake() noexcept { ++awaited_; }
  void expect_no_longer() noexcept { --awaited_; }
  [[nodiscard]] bool expects_wakes() const noexcept { return awaited_ != 0; }
  /// The loop ends, if nothing is queued: from now on post() says no.
  [[nodiscard]] bool close_if_empty() noexcept;
  /// The loop ends: from now on post() says no. Callbacks that are queued are dropped, wakes are delivered.
  void close() noexcept;

 private:
  [[nodiscard]] bool empty() const noexcept { return queued_.empty() && first_wake_ == nullptr; }
  [[nodiscard]] RemoteWake* take_wakes() noexcept;
  void wake_engine(std::unique_lock<std::mutex>& lock) noexcept;

  const std::size_t limit_;
  std::atomic<bool> pending_{false};
  std::atomic<std::size_t> users_{0};
  std::atomic<unsigned> waking_{0};  // threads that are about to wake the engine, which therefore stays
  std::size_t awaited_ = 0;          // the loop's

  std::mutex mutex_;
  // Protected by mutex_:
  std::vector<Callback> queued_;
  RemoteWake* first_wake_ = nullptr;
  RemoteWake** wakes_end_ = &first_wake_;
  Engine* engine_;  // null once the loop has ended
  bool sleeping_ = false;
  bool look_again_ = false;  // the last user went while the loop was awake: it may have counted on one
};

}  // namespace bight::detail
