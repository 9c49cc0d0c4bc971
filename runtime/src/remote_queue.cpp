// SPDX-License-Identifier: Apache-2.0
#include "remote_queue.hpp"

#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <bight/check.hpp>
#include <bight/remote.hpp>

#include "engine/engine.hpp"
#include "loop.hpp"

namespace bight::detail {

bool RemoteQueue::post(Callback callback) {
  std::unique_lock lock(mutex_);
  if (engine_ == nullptr) return false;
  if (queued_.size() >= limit_) {
    throw std::system_error(
        std::make_error_code(std::errc::resource_unavailable_try_again),
        "post to a loop: RunOptions::posts_max = " + std::to_string(limit_) + " callbacks wait already");
  }
  queued_.push_back(std::move(callback));
  pending_.store(true, std::memory_order_relaxed);
  wake_engine(lock);
  return true;
}

bool RemoteQueue::wake(RemoteWake& wake) noexcept {
  std::unique_lock lock(mutex_);
  if (engine_ == nullptr) return false;
  wake.next_wake = nullptr;
  *wakes_end_ = &wake;
  wakes_end_ = &wake.next_wake;
  pending_.store(true, std::memory_order_relaxed);
  wake_engine(lock);
  return true;
}

/// Wakes the engine if it sleeps. Then lets go of the lock first; afterwards nothing of *this may be touched, for the
/// loop may have ended.
void RemoteQueue::wake_engine(std::unique_lock<std::mutex>& lock) noexcept {
  if (!std::exchange(sleeping_, false)) return;
  Engine& engine = *engine_;
  waking_.fetch_add(1, std::memory_order_relaxed);
  lock.unlock();
  engine.wake();
  waking_.fetch_sub(1, std::memory_order_release);
}

void RemoteQueue::drop_user() noexcept {
  if (users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  // The last way in is gone: a loop that sleeps with nothing else to wait for has to look again, for now it is
  // deadlocked.
  std::unique_lock lock(mutex_);
  look_again_ = !sleeping_;
  if (engine_ != nullptr) wake_engine(lock);
}

RemoteWake* RemoteQueue::take(std::vector<Callback>& into) noexcept {
  const std::lock_guard lock(mutex_);
  pending_.store(false, std::memory_order_relaxed);
  std::swap(queued_, into);
  return take_wakes();
}

RemoteWake* RemoteQueue::take_wakes() noexcept {
  wakes_end_ = &first_wake_;
  return std::exchange(first_wake_, nullptr);
}

bool RemoteQueue::begin_sleep() noexcept {
  const std::lock_guard lock(mutex_);
  sleeping_ = empty() && !std::exchange(look_again_, false);
  return sleeping_;
}

void RemoteQueue::end_sleep() noexcept {
  const std::lock_guard lock(mutex_);
  sleeping_ = false;
}

bool RemoteQueue::close_if_empty() noexcept {
  const std::lock_guard lock(mutex_);
  if (empty()) engine_ = nullptr;
  return engine_ == nullptr;
}

void RemoteQueue::close() noexcept {
  std::vector<Callback> dropped;
  RemoteWake* wakes = nullptr;
  {
    const std::lock_guard lock(mutex_);
    engine_ = nullptr;
    std::swap(dropped, queued_);
    wakes = take_wakes();
  }
  while (wakes != nullptr) {
    RemoteWake& each = *std::exchange(wakes, wakes->next_wake);
    each.deliver(each);
  }
  while (waking_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

}  // namespace bight::detail

namespace bight {

Remote::Remote() : queue_(detail::Loop::require().remote()) { queue_->add_user(); }

Remote::Remote(const Remote& other) noexcept : queue_(other.queue_) {
  if (queue_ != nullptr) queue_->add_user();
}

Remote& Remote::operator=(Remote other) noexcept {
  std::swap(queue_, other.queue_);
  return *this;
}

Remote::~Remote() {
  if (queue_ != nullptr) queue_->drop_user();
}

bool Remote::post(detail::Callback callback) const {
  BIGHT_CHECK(queue_ != nullptr, "this Remote has been moved from");
  return queue_->post(std::move(callback));
}

}  // namespace bight
