// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <exception>
#include <iterator>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/check.hpp>
#include <bight/detail/loop_bound.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight::detail {

/// Someone who waits for a value.
template <class T>
struct ReceiveLink : WaitLink {
  std::optional<T>* value = nullptr;  // where to; still empty when woken: closed
};

/// Someone who waits to get rid of one.
template <class T>
struct SendLink : WaitLink {
  T* value = nullptr;
  bool taken = false;        // else, when woken: closed, or
  std::exception_ptr error;  // the value could not be moved
};

void describe_receive(const WaitLink&, std::string& text);
void describe_send(const WaitLink&, std::string& text);

/// Where values change hands between fibers: what Channel and the queues have in common. `Store` keeps the values that
/// nobody has asked for yet, in the order in which they are to be had: empty(), size(), clear(),
/// push(T&&), take(std::optional<T>&).
///
/// Invariants: receivers wait only while the store is empty and no sender waits; senders wait only while the store is
/// full. So whoever comes is served by what is there, or goes to the end of one list.
///
/// A value belongs to its sender until it has been moved, and that is when the operation has happened, whatever becomes
/// of either fiber afterwards. Moves that throw: the caller gets the exception, and nothing has happened; where the
/// caller is a receiver who made room for a waiting sender's value, that sender gets it.
template <class T, class Store>
class Exchange {
 public:
  enum class Offer : unsigned char { taken, full, closed };

  template <class... StoreArgs>
  explicit Exchange(std::size_t capacity, StoreArgs&&... store_args)
      : capacity_(capacity), store_(std::forward<StoreArgs>(store_args)...) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  ~Exchange() {
    BIGHT_CHECK(receivers_.empty() && senders_.empty(), "a Channel or Queue is destroyed while fibers wait on it");
  }

  void enter() const noexcept { bound_.enter(); }

  /// Moves from `value` only if it is taken. Does not wait.
  Offer offer(T& value) {
    bound_.enter();
    if (closed_) [[unlikely]]
      return Offer::closed;
    if (!receivers_.empty()) {
      auto& receiver = static_cast<ReceiveLink<T>&>(*receivers_.first());
      receiver.value->emplace(std::move(value));
      ++accepted_;
      receivers_.wake(receiver);
      return Offer::taken;
    }
    if (full()) return Offer::full;
    store_.push(std::move(value));
    ++accepted_;
    return Offer::taken;
  }

  /// Waits until it is taken. False: timed out. Throws ChannelClosed and Cancelled.
  bool send(T& value, TimePoint until) {
    switch (offer(value)) {
      case Offer::taken: return true;
      case Offer::closed: throw ChannelClosed{};
      case Offer::full: break;
    }
    SendLink<T> link;
    link.value = &value;
    if (!wait_or_throw(senders_, link, describe_send, until)) return false;
    finish(link);
    return true;
  }

  /// What has become of a sender that was woken.
  static void finish(SendLink<T>& link) {
    if (link.taken) return;
    if (link.error != nullptr) std::rethrow_exception(link.error);
    throw ChannelClosed{};
  }

  [[nodiscard]] bool has_value() const noexcept { return !store_.empty() || !senders_.empty(); }
  /// Whether a receive would not have to wait.
  [[nodiscard]] bool receivable() const noexcept { return has_value() || closed_; }
  /// Whether a send would not have to wait.
  [[nodiscard]] bool sendable() const noexcept { return !full() || !receivers_.empty() || closed_; }

  /// Puts a value into `result`, if there is one. Does not wait.
  void take(std::optional<T>& result) {
    bound_.enter();
    if (!store_.empty()) {
      store_.take(result);
      if (!senders_.empty()) admit_senders();
    } else if (!senders_.empty()) {  // and nothing is stored: a rendezvous
      auto& sender = static_cast<SendLink<T>&>(*senders_.first());
      result.emplace(std::move(*sender.value));
      sender.taken = true;
      ++accepted_;
      senders_.wake(sender);
    }
  }

  /// Waits for a value. Nothing: closed and drained, or timed out. Throws Cancelled. Not inlined, for then small values
  /// come back in registers, where inlining has GCC 12 copy a std::optional just written, at four times the cost.
  [[nodiscard, gnu::noinline]] std::optional<T> receive(TimePoint until) {
    if constexpr (kPlain) {
      if (bound_.here() && !store_.empty()) [[likely]] {
        const Taken taken(*this);
        return std::optional<T>(std::in_place, std::move(store_.front()));
      }
    }
    return receive_slow(until);
  }
  /// Does not wait.
  [[nodiscard]] std::optional<T> take() {
    if constexpr (kPlain) {
      if (bound_.here() && !store_.empty()) [[likely]] {
        const Taken taken(*this);
        return std::optional<T>(std::in_place, std::move(store_.front()));
      }
    }
    return take_in_place();
  }

  void close() noexcept {
    bound_.enter();
    closed_ = true;
    receivers_.wake_all();
    senders_.wake_all();
  }

  /// Everything that could be received now.
  [[nodiscard]] std::vector<T> drain() {
    std::vector<T> values;
    values.reserve(store_.size() + senders_.size());
    while (std::optional<T> value = take()) values.push_back(std::move(*value));
    return values;
  }

  /// Throws away what is stored, where no sender waits: after close(). How many.
  std::size_t discard() noexcept {
    const std::size_t count = store_.size();
    store_.clear();
    return count;
  }

  [[nodiscard]] bool closed() const noexcept { return closed_; }
  [[nodiscard]] std::size_t size() const noexcept { return store_.size(); }
  /// How many values have been taken from their senders, ever.
  [[nodiscard]] std::size_t accepted() const noexcept { return accepted_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] bool full() const noexcept { return store_.size() >= capacity_; }
  [[nodiscard]] WaitList& receivers() noexcept { return receivers_; }
  [[nodiscard]] WaitList& senders() noexcept { return senders_; }
  [[nodiscard]] const WaitList& receivers() const noexcept { return receivers_; }
  [[nodiscard]] const WaitList& senders() const noexcept { return senders_; }

 private:
  /// A value can then be moved from the store straight to where it goes, without a std::optional on the way: copies of
  /// one that was just written stall the processor for longer than all the rest takes.
  static constexpr bool kPlain = std::is_nothrow_move_constructible_v<T> && requires(Store & store) { store.front(); };

  /// The front one has been moved from.
  struct Taken {
    explicit Taken(Exchange& of) noexcept : exchange(of) {}
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;
    ~Taken() {
      exchange.store_.pop();
      if (!exchange.senders_.empty()) exchange.admit_senders();
    }
    Exchange& exchange;
  };

  [[gnu::noinline]] std::optional<T> receive_slow(TimePoint until) {
    if constexpr (kPlain) {
      std::optional<T> result;
      receive_into(result, until);
      if (result.has_value()) return std::optional<T>(std::in_place, std::move(*result));
      return std::nullopt;
    } else {
      return receive_in_place(until);
    }
  }

  void receive_into(std::optional<T>& result, TimePoint until) {
    take(result);
    if (result.has_value() || closed_) return;
    ReceiveLink<T> link;
    link.value = &result;
    wait_or_throw(receivers_, link, describe_receive, until);
  }

  // Where a move may throw there must be none after the value has left its place: these have one variable and return
  // it, so that it is the caller's own. (With other returns about, Clang moves.)
  std::optional<T> take_in_place() {
    std::optional<T> result;
    take(result);
    return result;
  }
  std::optional<T> receive_in_place(TimePoint until) {
    std::optional<T> result;
    receive_into(result, until);
    return result;
  }

  void admit_senders() noexcept {
    while (!senders_.empty() && !full()) {
      auto& sender = static_cast<SendLink<T>&>(*senders_.first());
      try {
        store_.push(std::move(*sender.value));
        sender.taken = true;
        ++accepted_;
      } catch (...) {
        sender.error = std::current_exception();
      }
      senders_.wake(sender);
    }
  }

  LoopBound bound_;
  bool closed_ = false;
  const std::size_t capacity_;
  std::size_t accepted_ = 0;
  Store store_;
  WaitList receivers_;
  WaitList senders_;
};

/// Goes through what can be received, as a range: input iteration.
template <class Source, class T>
class ReceiveIterator {
 public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;

  explicit ReceiveIterator(Source& source) : source_(&source), value_(source.next_value()) {}

  T& operator*() const noexcept { return *value_; }
  ReceiveIterator& operator++() {
    value_.reset();  // not kept while waiting for the next one
    if (std::optional<T> next = source_->next_value()) value_.emplace(std::move(*next));
    return *this;
  }
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const noexcept { return !value_.has_value(); }

 private:
  Source* source_;
  mutable std::optional<T> value_;
};

}  // namespace bight::detail
