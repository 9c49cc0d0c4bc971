// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Queues of work for the fibers of one loop, which know when it is done: Python's queue module. Where nobody asks
/// for that, a Channel does.

#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/check.hpp>
#include <bight/detail/exchange.hpp>
#include <bight/detail/ring.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/time.hpp>

namespace bight {

/// How a queue is shut down: with what is in it still to be had, or without.
enum class Shutdown : unsigned char { drain, immediate };

namespace detail {

template <class T>
class Stack {
 public:
  [[nodiscard]] bool empty() const noexcept { return values_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }
  void clear() noexcept { values_.clear(); }
  void push(T&& value) {
    if (size() == values_.capacity()) values_.reserve(2 * size() + 4);  // may throw: before the value is moved
    values_.push_back(std::move(value));
  }
  void take(std::optional<T>& result) {
    result.emplace(std::move(values_.back()));
    values_.pop_back();
  }

 private:
  std::vector<T> values_;
};

/// A binary heap: what `Before` puts first comes out first, equals come out in the order in which they went in.
///
/// Comparisons and moves of values may throw. So all comparisons come first, then the one move in or out, and then the
/// entries change places, which can not fail: what could throw on that way is kept in a box.
template <class T, class Before>
class Heap {
 public:
  explicit Heap(Before before = {}) : before_{std::move(before)} {}
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  void clear() noexcept { entries_.clear(); }
  void push(T&& value) {
    std::size_t place = size();
    while (place > 0 && before_(value, entries_[above(place)].get())) place = above(place);
    entries_.emplace_back(std::move(value), next_);
    ++next_;
    for (std::size_t at = size() - 1; at != place; at = above(at)) std::swap(entries_[at], entries_[above(at)]);
  }
  void take(std::optional<T>& result) {
    const std::size_t place = place_of_last();
    result.emplace(std::move(entries_.front().get()));
    for (std::size_t at = place; at != 0; at = above(at)) std::swap(entries_[at], entries_.back());
    std::swap(entries_.front(), entries_.back());
    entries_.pop_back();
  }

 private:
  static constexpr bool kBoxed = !std::is_nothrow_move_constructible_v<T> || !std::is_nothrow_move_assignable_v<T>;

  struct Entry {
    Entry(T&& what, std::size_t when) : value(hold(std::move(what))), serial(when) {}
    static auto hold(T&& what) {
      if constexpr (kBoxed) {
        return std::make_unique<T>(std::move(what));
      } else {
        return std::move(what);
      }
    }
    [[nodiscard]] T& get() noexcept {
      if constexpr (kBoxed) {
        return *value;
      } else {
        return value;
      }
    }
    std::conditional_t<kBoxed, std::unique_ptr<T>, T> value;
    std::size_t serial;
  };

  [[nodiscard]] static std::size_t above(std::size_t place) noexcept { return (place - 1) / 2; }
  [[nodiscard]] bool first(Entry& a, Entry& b) {
    if (before_(a.get(), b.get())) return true;
    return a.serial < b.serial && !before_(b.get(), a.get());
  }
  /// Where the last entry belongs once the front one is gone.
  [[nodiscard]] std::size_t place_of_last() {
    const std::size_t last = size() - 1;
    std::size_t place = 0;
    for (std::size_t below = 1; below < last; below = 2 * place + 1) {
      if (below + 1 < last && first(entries_[below + 1], entries_[below])) ++below;
      if (!first(entries_[below], entries_[last])) break;
      place = below;
    }
    return place;
  }

  Before before_;
  std::vector<Entry> entries_;
  std::size_t next_ = 0;
};

}  // namespace detail

/// What the three queues have in common; they differ in the order in which values come out, which `Store` decides.
///
/// Everything that was put counts as unfinished until task_done() has been called for it; join() waits for that. The
/// rules for waiting, cancellation, limits and threads are those of Channel: nothing is lost, and nobody overtakes who
/// waits.
template <class T, class Store>
class BasicQueue {
  static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>, "what is put is moved");

 public:
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

  /// For at most `capacity` values, at least 1 (else it aborts with a sentence: a rendezvous is a Channel's job).
  template <class... StoreArgs>
  explicit BasicQueue(std::size_t capacity = kUnbounded, StoreArgs&&... store_args)
      : exchange_(capacity, std::forward<StoreArgs>(store_args)...) {
    BIGHT_CHECK(capacity > 0, "a queue holds one value at least; for a rendezvous there is Channel");
  }
  ~BasicQueue() { BIGHT_CHECK(joiners_.empty(), "a Queue is destroyed while fibers wait for its tasks"); }
  BasicQueue(const BasicQueue&) = delete;
  BasicQueue& operator=(const BasicQueue&) = delete;

  /// Waits for room. Throws ChannelClosed after shutdown() (also if that comes meanwhile), and Cancelled.
  void put(T&& value) { exchange_.send(value, TimePoint::max()); }
  void put(const T& value) { put(T(value)); }
  /// Does not wait. Whether there was room. Throws ChannelClosed.
  [[nodiscard]] bool try_put(T&& value) {
    const auto offer = exchange_.offer(value);
    if (offer == Values::Offer::closed) throw ChannelClosed{};
    return offer == Values::Offer::taken;
  }
  [[nodiscard]] bool try_put(const T& value) { return try_put(T(value)); }
  /// Waits for `limit` at most. Whether there was room. Throws ChannelClosed and Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(T&& value, const std::chrono::duration<Rep, Period>& limit) {
    return try_put(std::move(value)) ||
           exchange_.send(value, detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool put_for(const T& value, const std::chrono::duration<Rep, Period>& limit) {
    return put_for(T(value), limit);
  }
  template <class C, class D>
  [[nodiscard]] bool put_until(T&& value, const std::chrono::time_point<C, D>& when) {
    return try_put(std::move(value)) || exchange_.send(value, detail::loop_time(when));
  }
  template <class C, class D>
  [[nodiscard]] bool put_until(const T& value, const std::chrono::time_point<C, D>& when) {
    return put_until(T(value), when);
  }

  /// Waits for a value. Nothing: it was shut down, and is empty. Throws Cancelled.
  [[nodiscard]] std::optional<T> get() { return exchange_.receive(TimePoint::max()); }
  /// Does not wait. Nothing: there is none now, or never again (closed()).
  [[nodiscard]] std::optional<T> try_get() { return exchange_.take(); }
  /// Waits for `limit` at most. Throws Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> get_for(const std::chrono::duration<Rep, Period>& limit) {
    if (exchange_.receivable()) return exchange_.take();
    return exchange_.receive(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] std::optional<T> get_until(const std::chrono::time_point<C, D>& when) {
    if (exchange_.receivable()) return exchange_.take();
    return exchange_.receive(detail::loop_time(when));
  }

  /// What was got from the queue has been dealt with. Throws std::logic_error when called more often than values were
  /// put. Does not wait.
  void task_done() {
    exchange_.enter();
    if (unfinished() == 0) throw std::logic_error("task_done() was called more often than there were tasks");
    ++done_;
    tell_joiners();
  }
  /// Waits until nothing is unfinished; returns at once for a queue that nothing was put into. Throws Cancelled.
  void join() { join_limited(TimePoint::max()); }
  /// The same for `limit` at most. Whether nothing is, or meanwhile was, unfinished.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(const std::chrono::duration<Rep, Period>& limit) {
    return join_limited(detail::limit_from_now(detail::saturating_duration(limit)));
  }

  /// Nothing more is put: that throws ChannelClosed, in fibers that wait for room, too. `drain` leaves what is in it to
  /// be got; `immediate` throws it away, as dealt with. Fibers that wait for a value are woken with nothing. Does not
  /// wait; may be called again.
  void shutdown(Shutdown how = Shutdown::drain) {
    exchange_.close();
    if (how == Shutdown::drain) return;
    done_ += exchange_.discard();
    tell_joiners();
  }

  [[nodiscard]] bool closed() const noexcept { return exchange_.closed(); }
  [[nodiscard]] std::size_t size() const noexcept { return exchange_.size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] bool full() const noexcept { return exchange_.full(); }
  [[nodiscard]] std::size_t capacity() const noexcept { return exchange_.capacity(); }
  /// How many values were put and have not been dealt with.
  [[nodiscard]] std::size_t unfinished() const noexcept { return exchange_.accepted() - done_; }

  /// `for (T& value : queue)` gets until it is shut down and empty.
  [[nodiscard]] auto begin() { return detail::ReceiveIterator<BasicQueue, T>(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }
  [[nodiscard]] std::optional<T> next_value() { return get(); }

  /// Cases of select(), see there and Channel::on_receive, on_send.
  template <class F>
  [[nodiscard]] auto on_get(F&& handler) {
    return detail::ReceiveCase<T, Values, std::decay_t<F>>(exchange_, std::forward<F>(handler));
  }
  template <class F>
  [[nodiscard]] auto on_put(T&& value, F&& handler) {
    return detail::SendCase<T, Values, std::decay_t<F>>(exchange_, value, std::forward<F>(handler));
  }
  template <class F>
  [[nodiscard]] auto on_put(const T& value, F&& handler) {
    return detail::SendCase<T, Values, std::decay_t<F>>(exchange_, std::in_place, value, std::forward<F>(handler));
  }

 private:
  using Values = detail::Exchange<T, Store>;

  bool join_limited(TimePoint until) {
    exchange_.enter();
    if (unfinished() == 0) return true;
    detail::WaitLink link;
    return detail::wait_or_throw(
        joiners_, link, [](const detail::WaitLink&, std::string& text) { text += "the tasks of a queue"; }, until);
  }
  void tell_joiners() noexcept {
    if (unfinished() == 0) joiners_.wake_all();
  }

  Values exchange_;
  std::size_t done_ = 0;
  detail::WaitList joiners_;
};

/// First in, first out.
template <class T>
using Queue = BasicQueue<T, detail::Ring<T>>;

/// Last in, first out.
template <class T>
using LifoQueue = BasicQueue<T, detail::Stack<T>>;

/// What `Before` puts first, first (with std::less the least, as Python's; std::priority_queue has it the other way
/// round); equals in the order in which they were put. put() and get() are O(log n) comparisons.
template <class T, class Before = std::less<T>>
using PriorityQueue = BasicQueue<T, detail::Heap<T, Before>>;

}  // namespace bight
