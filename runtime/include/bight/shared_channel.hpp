// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <limits>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include <bight/detail/cross_waiter.hpp>
#include <bight/detail/ring.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight {

/// A queue of values between fibers of any loop and threads without one, all at once: any number may send, any number
/// receive. (Within one loop a Channel costs less.) First in, first out; first come, first served, for senders as for
/// receivers. T may be move-only and must move without throwing.
///
/// No value is ever lost: who times out, is cancelled or finds the channel closed while it sends still has its value,
/// not moved from; who does while it receives has left the value in the channel, or returns it.
///
/// A bounded channel takes memory for twice its capacity when it is made, and none later; an unbounded one grows.
/// Sending and receiving cost a short lock each; senders and receivers have one of their own, so that they hardly meet.
/// Waking a sleeping loop or thread costs a system call; one that is behind is not woken, but takes all in one go.
///
/// Destroy it when nobody uses it any more: what is in it goes with it. About deadlocks and virtual time see
/// SharedEvent.
template <class T>
class SharedChannel {
  static_assert(std::is_nothrow_move_constructible_v<T>,
                "values that change threads must move without throwing: a std::unique_ptr to one does");

 public:
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

  /// `capacity`: how many values may wait; 0: send() waits until a receiver takes the value. Throws std::bad_alloc.
  explicit SharedChannel(std::size_t capacity = kUnbounded) : capacity_(capacity) {
    if (capacity == kUnbounded) return;
    in_.reserve(capacity);
    out_.reserve(capacity);
  }
  SharedChannel(const SharedChannel&) = delete;
  SharedChannel& operator=(const SharedChannel&) = delete;

  // Senders.

  /// Waits for room. Throws ChannelClosed, Cancelled, and std::bad_alloc (unbounded ones).
  void send(T&& value) { static_cast<void>(send_until(std::move(value), TimePoint::max())); }
  void send(const T& value) { send(T(value)); }
  /// The same with a limit. False: it has run out.
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T&& value, const std::chrono::duration<Rep, Period>& limit) {
    return send_until(std::move(value), detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(const T& value, const std::chrono::duration<Rep, Period>& limit) {
    return send_for(T(value), limit);
  }
  [[nodiscard]] bool send_until(T&& value, TimePoint when);
  [[nodiscard]] bool send_until(const T& value, TimePoint when) { return send_until(T(value), when); }
  /// Never waits; also from callbacks. False: there is no room. Throws ChannelClosed and std::bad_alloc.
  [[nodiscard]] bool try_send(T&& value) {
    std::unique_lock lock(in_mutex_);
    return put(value, lock);
  }
  [[nodiscard]] bool try_send(const T& value) { return try_send(T(value)); }

  /// No more is sent: who waits to do so gets ChannelClosed; receivers get what is in the channel, then nothing.
  /// Harmless when closed. Never waits.
  void close() noexcept;

  // Receivers.

  /// Waits for a value. None: the channel is closed and empty. Throws Cancelled.
  [[nodiscard]] std::optional<T> receive() { return receive_until(TimePoint::max()); }
  /// The same with a limit. None also when it has run out; closed() tells which.
  [[nodiscard]] std::optional<T> receive_for(Duration limit) {
    return receive_until(detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  [[nodiscard]] std::optional<T> receive_until(TimePoint when);
  /// Never waits; also from callbacks.
  [[nodiscard]] std::optional<T> try_receive();

  /// `for (T& value : channel)`: receives until the channel is closed and empty. Throws as receive().
  class Iterator;
  [[nodiscard]] Iterator begin() { return Iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  // Anybody; out of date at once.

  [[nodiscard]] bool closed() const noexcept {
    const std::lock_guard lock(in_mutex_);
    return closed_;
  }
  [[nodiscard]] std::size_t size() const noexcept {
    const std::lock_guard lock(in_mutex_);
    return in_.size() + out_left_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

 private:
  // Values go into in_ under in_mutex_. Receivers take them from out_ under out_mutex_; when out_ is empty they take
  // in_mutex_ too, for once, and swap the two.
  //
  // Senders know how many are left in out_ without its lock: at most out_bound_, for it only shrinks between swaps;
  // exactly out_left_. A sender that finds no room announces itself in senders_waiting_ and looks at out_left_ once
  // more; a receiver that has made room announces it in out_left_ and looks at senders_waiting_. Both in sequentially
  // consistent order, so one of them sees the other.
  //
  // While a receiver waits, nothing is in the channel: a sender hands it the value directly.

  struct Sender : detail::CrossWaiter {
    explicit Sender(T& what) noexcept : CrossWaiter("room in a SharedChannel"), value(&what) {}
    T* value;
    bool sent = false;
  };
  struct Receiver : detail::CrossWaiter {
    Receiver() noexcept : CrossWaiter("a value from a SharedChannel") {}
    std::optional<T> value;
  };
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] bool put(T& value, Lock& lock);
  [[nodiscard]] bool has_room() noexcept;
  [[nodiscard]] std::optional<T> take(Lock& out_lock, Lock& in_lock);
  void admit_senders(detail::CrossNotices& notices) noexcept;

  const std::size_t capacity_;

  // The senders' side, protected by in_mutex_.
  alignas(64) mutable std::mutex in_mutex_;
  detail::Ring<T> in_;
  std::size_t out_bound_ = 0;
  bool closed_ = false;
  detail::CrossWaiters receivers_;
  detail::CrossWaiters senders_;

  // The receivers' side, protected by out_mutex_.
  alignas(64) std::mutex out_mutex_;
  detail::Ring<T> out_;
  std::atomic<std::size_t> out_left_{0};  // written under out_mutex_

  alignas(64) std::atomic<bool> senders_waiting_{false};  // written under in_mutex_
};

template <class T>
class SharedChannel<T>::Iterator {
 public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;

  explicit Iterator(SharedChannel& channel) : channel_(&channel), value_(channel.receive()) {}
  [[nodiscard]] T& operator*() const noexcept { return *value_; }
  [[nodiscard]] T* operator->() const noexcept { return &*value_; }
  Iterator& operator++() {
    value_.reset();  // before the wait: the value may own something
    if (auto next = channel_->receive()) value_.emplace(std::move(*next));
    return *this;
  }
  void operator++(int) { ++*this; }
  [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return !value_.has_value(); }

 private:
  SharedChannel* channel_;
  mutable std::optional<T> value_;
};

// --- Senders ---------------------------------------------------------------------------------------------------------

template <class T>
bool SharedChannel<T>::send_until(T&& value, TimePoint when) {
  detail::enter_cross_wait();
  Lock lock(in_mutex_);
  if (put(value, lock)) {
    detail::charge_cross_wait();
    return true;
  }
  Sender sender(value);
  senders_.push(sender);
  if (!detail::granted_or_throw(detail::settle(sender, senders_, lock, when))) return false;
  if (!sender.sent) throw ChannelClosed();
  return true;
}

/// Hands the value to a receiver, or queues it; not if there is no room. Afterwards the lock is held only in that case.
template <class T>
bool SharedChannel<T>::put(T& value, Lock& lock) {
  if (closed_) throw ChannelClosed();
  if (auto* receiver = static_cast<Receiver*>(receivers_.pop())) {
    receiver->value.emplace(std::move(value));
    lock.unlock();
    receiver->notify();
    return true;
  }
  if (!has_room()) return false;
  in_.push(std::move(value));
  lock.unlock();
  return true;
}

/// Whether one more may come, before those who wait. If not, receivers know from now on that somebody waits for room.
template <class T>
bool SharedChannel<T>::has_room() noexcept {
  if (!senders_.empty()) return false;
  if (capacity_ == kUnbounded || in_.size() + out_bound_ < capacity_) return true;
  senders_waiting_.store(true, std::memory_order_seq_cst);
  out_bound_ = out_left_.load(std::memory_order_seq_cst);
  if (in_.size() + out_bound_ >= capacity_) return false;
  senders_waiting_.store(false, std::memory_order_relaxed);
  return true;
}

template <class T>
void SharedChannel<T>::close() noexcept {
  detail::CrossNotices notices;
  const Lock lock(in_mutex_);
  closed_ = true;
  while (auto* receiver = receivers_.pop()) notices.add(*receiver);
  while (auto* sender = senders_.pop()) notices.add(*sender);
}

// --- Receivers -------------------------------------------------------------------------------------------------------

template <class T>
std::optional<T> SharedChannel<T>::receive_until(TimePoint when) {
  detail::enter_cross_wait();
  Lock out_lock(out_mutex_);
  Lock in_lock(in_mutex_, std::defer_lock);
  if (auto value = take(out_lock, in_lock)) {
    detail::charge_cross_wait();
    return value;
  }
  if (closed_) return std::nullopt;
  out_lock.unlock();
  Receiver receiver;
  receivers_.push(receiver);
  static_cast<void>(detail::granted_or_throw(detail::settle(receiver, receivers_, in_lock, when)));
  return std::move(receiver.value);
}

template <class T>
std::optional<T> SharedChannel<T>::try_receive() {
  Lock out_lock(out_mutex_);
  Lock in_lock(in_mutex_, std::defer_lock);
  return take(out_lock, in_lock);
}

/// Takes the first value, if there is one, and lets senders in where it was. If there is none both locks are held
/// afterwards, otherwise neither.
template <class T>
std::optional<T> SharedChannel<T>::take(Lock& out_lock, Lock& in_lock) {
  detail::CrossNotices notices;
  if (out_.empty()) {
    in_lock.lock();
    if (in_.empty()) {
      auto* sender = static_cast<Sender*>(capacity_ == 0 ? senders_.pop() : nullptr);
      if (sender == nullptr) return std::nullopt;
      std::optional<T> value(std::move(*sender->value));
      sender->sent = true;
      notices.add(*sender);
      in_lock.unlock();
      out_lock.unlock();
      return value;
    }
    out_.swap(in_);
    out_bound_ = out_.size();
    out_left_.store(out_.size(), std::memory_order_relaxed);
  }
  std::optional<T> value(std::in_place, std::move(out_.front()));
  out_.pop();
  if (capacity_ != kUnbounded) {
    out_left_.store(out_.size(), std::memory_order_seq_cst);
    if (senders_waiting_.load(std::memory_order_seq_cst)) {
      if (!in_lock.owns_lock()) in_lock.lock();
      admit_senders(notices);
    }
  } else {
    out_left_.store(out_.size(), std::memory_order_relaxed);
  }
  if (in_lock.owns_lock()) in_lock.unlock();
  out_lock.unlock();
  return value;
}

/// With both locks.
template <class T>
void SharedChannel<T>::admit_senders(detail::CrossNotices& notices) noexcept {
  out_bound_ = out_.size();
  while (!senders_.empty() && in_.size() + out_bound_ < capacity_) {
    auto* sender = static_cast<Sender*>(senders_.pop());
    in_.push(std::move(*sender->value));
    sender->sent = true;
    notices.add(*sender);
  }
  senders_waiting_.store(!senders_.empty(), std::memory_order_relaxed);
}

}  // namespace bight
