// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Channels: values handed from fiber to fiber of one loop. For threads: SharedChannel.

#include <chrono>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/detail/exchange.hpp>
#include <bight/detail/ring.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/time.hpp>

namespace bight {

/// Go's channel. Any number of fibers send and receive; values come out in the order in which they went in, and each
/// comes out once. Senders and receivers that wait are served in the order in which they came.
///
/// What waits throws Cancelled, and what has timed out returns: then nothing has been sent, or received, and the value
/// is still the sender's (send(T&&) has not moved from it). What need not wait happens, in a cancelled fiber too. The
/// verbs that do not wait may also be called from callbacks, and where there is no loop. T may be move-only. To destroy
/// it while fibers wait aborts with a sentence.
///
/// O(1). Memory grows with what is in it and is kept; a steady state allocates nothing.
template <class T>
class Channel {
  static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>, "what is sent is moved");

 public:
  static constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

  /// Holds up to `capacity` values that nobody has received yet. With 0, a rendezvous: send() returns when someone has
  /// received the value.
  explicit Channel(std::size_t capacity = 0) : exchange_(capacity) {}

  /// Waits for room, or a receiver. Throws ChannelClosed (also if it is closed meanwhile) and Cancelled.
  void send(T&& value) { exchange_.send(value, TimePoint::max()); }
  void send(const T& value) {
    T copy(value);
    exchange_.send(copy, TimePoint::max());
  }
  /// Does not wait. Whether the value has been sent. Throws ChannelClosed.
  [[nodiscard]] bool try_send(T&& value) { return sent(exchange_.offer(value)); }
  [[nodiscard]] bool try_send(const T& value) {
    T copy(value);
    return sent(exchange_.offer(copy));
  }
  /// Waits for `limit` at most. Whether the value has been sent. Throws ChannelClosed and Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T&& value, const std::chrono::duration<Rep, Period>& limit) {
    return try_send(std::move(value)) ||
           exchange_.send(value, detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(const T& value, const std::chrono::duration<Rep, Period>& limit) {
    return send_for(T(value), limit);
  }
  template <class C, class D>
  [[nodiscard]] bool send_until(T&& value, const std::chrono::time_point<C, D>& when) {
    return try_send(std::move(value)) || exchange_.send(value, detail::loop_time(when));
  }
  template <class C, class D>
  [[nodiscard]] bool send_until(const T& value, const std::chrono::time_point<C, D>& when) {
    return send_until(T(value), when);
  }

  /// Waits for a value. Nothing: the channel is closed, and all that was sent has been received. Throws Cancelled.
  [[nodiscard]] std::optional<T> receive() { return exchange_.receive(TimePoint::max()); }
  /// Does not wait. Nothing: there is none now, or never again (closed()).
  [[nodiscard]] std::optional<T> try_receive() { return exchange_.take(); }
  /// Waits for `limit` at most. Throws Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& limit) {
    if (exchange_.receivable()) return exchange_.take();
    return exchange_.receive(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] std::optional<T> receive_until(const std::chrono::time_point<C, D>& when) {
    if (exchange_.receivable()) return exchange_.take();
    return exchange_.receive(detail::loop_time(when));
  }

  /// No more is sent: sends throw ChannelClosed, those that wait too. What has been sent can still be received. Does
  /// not wait; harmless when closed.
  void close() noexcept { exchange_.close(); }
  /// Takes everything that could be received without waiting, the values of waiting senders included. Does not wait.
  [[nodiscard]] std::vector<T> drain() { return exchange_.drain(); }

  [[nodiscard]] bool closed() const noexcept { return exchange_.closed(); }
  /// How many values are in it; 0 for a rendezvous.
  [[nodiscard]] std::size_t size() const noexcept { return exchange_.size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] bool full() const noexcept { return exchange_.full(); }
  [[nodiscard]] std::size_t capacity() const noexcept { return exchange_.capacity(); }
  /// How many fibers wait.
  [[nodiscard]] std::size_t receivers_waiting() const noexcept { return exchange_.receivers().size(); }
  [[nodiscard]] std::size_t senders_waiting() const noexcept { return exchange_.senders().size(); }

  /// `for (T& value : channel)` receives until it is closed and drained.
  [[nodiscard]] auto begin() { return detail::ReceiveIterator<Channel, T>(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }
  [[nodiscard]] std::optional<T> next_value() { return receive(); }

  /// Cases of select(), see there. `handler` takes a T, or a std::optional<T> that is empty when the channel is closed
  /// (as a generic lambda's parameter also is).
  template <class F>
  [[nodiscard]] auto on_receive(F&& handler) {
    return detail::ReceiveCase<T, Values, std::decay_t<F>>(exchange_, std::forward<F>(handler));
  }
  /// Moves from `value` only if it is chosen: to be used in the very expression of the select.
  template <class F>
  [[nodiscard]] auto on_send(T&& value, F&& handler) {
    return detail::SendCase<T, Values, std::decay_t<F>>(exchange_, value, std::forward<F>(handler));
  }
  template <class F>
  [[nodiscard]] auto on_send(const T& value, F&& handler) {
    return detail::SendCase<T, Values, std::decay_t<F>>(exchange_, std::in_place, value, std::forward<F>(handler));
  }

 private:
  using Values = detail::Exchange<T, detail::Ring<T>>;

  static bool sent(typename Values::Offer offer) {
    if (offer == Values::Offer::closed) throw ChannelClosed{};
    return offer == Values::Offer::taken;
  }

  Values exchange_;
};

}  // namespace bight
