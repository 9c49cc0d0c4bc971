// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include <bight/detail/callback.hpp>

namespace bight::detail {

class Engine;

/// Callbacks from other threads on their way into a loop. Shared by the loop and all Remotes; outlives either.
///
/// The loop sleeps only after begin_sleep() said that nothing is queued; a post() that comes later finds `sleeping_`
/// set and wakes the engine. Both look at the queue under the mutex, so one of them always sees the other: no wake-up
/// is lost.
class RemoteQueue {
 public:
  explicit RemoteQueue(Engine& engine, std::size_t limit = 1'000'000) noexcept : limit_(limit), engine_(&engine) {}

  // Any thread.
  bool post(Callback callback);
  void add_user() noexcept { users_.fetch_add(1, std::memory_order_relaxed); }
  void drop_user() noexcept;

  // The loop's thread.

  /// Whether something may be queued: a hint for the loop's every turn, without the lock.
  [[nodiscard]] bool pending() const noexcept { return pending_.load(std::memory_order_relaxed); }
  /// Moves what is queued to `into`, which is empty.
  void take(std::vector<Callback>& into) noexcept;
  /// False: do not sleep, something is queued.
  [[nodiscard]] bool begin_sleep() noexcept;
  void end_sleep() noexcept;
  [[nodiscard]] bool has_users() const noexcept { return users_.load(std::memory_order_acquire) != 0; }
  /// The loop ends, if nothing is queued: from now on post() says no.
  [[nodiscard]] bool close_if_empty() noexcept;
  /// The loop ends: from now on post() says no. What is queued is dropped.
  void close() noexcept;

 private:
  const std::size_t limit_;
  std::atomic<bool> pending_{false};
  std::atomic<std::size_t> users_{0};

  std::mutex mutex_;
  // Protected by mutex_:
  std::vector<Callback> queued_;
  Engine* engine_;  // null once the loop has ended
  bool sleeping_ = false;
  bool look_again_ = false;  // the last user went while the loop was awake: it may have counted on one
};

}  // namespace bight::detail
