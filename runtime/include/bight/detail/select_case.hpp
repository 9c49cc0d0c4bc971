// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <bight/detail/parking.hpp>
#include <bight/detail/timer.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight::detail {

template <class T>
struct ReceiveLink;
template <class T>
struct SendLink;

class SelectCase;

/// A fiber that waits in a select.
class SelectWait : public Parking {
 public:
  SelectWait(FiberControl& who, std::span<SelectCase* const> all) noexcept;

  /// This case it is. The others' links leave their lists at once, so that nobody serves them any more. The first one
  /// to be chosen stays so.
  void choose(SelectCase& which) noexcept;
  [[nodiscard]] SelectCase* chosen() const noexcept { return chosen_; }

 private:
  static const ParkingKind kKind;
  void end() noexcept;

  std::span<SelectCase* const> cases_;
  SelectCase* chosen_ = nullptr;
};

/// One of the things that a select waits for: made by on_receive() and the like, used in one select.
class SelectCase {
 public:
  SelectCase() noexcept = default;
  SelectCase(const SelectCase&) = delete;
  SelectCase& operator=(const SelectCase&) = delete;
  virtual ~SelectCase() = default;

  /// Whether it can be had without waiting.
  [[nodiscard]] virtual bool ready() noexcept = 0;
  /// Whether it can ever be.
  [[nodiscard]] virtual bool possible() const noexcept { return true; }
  /// Has it: only when it is ready, and nothing has happened since.
  virtual void take() {}
  /// Begins to wait; whether it is ready after all.
  virtual bool enlist(SelectWait& wait) noexcept = 0;
  /// Has nobody serve it any more. Does not wait.
  virtual void delist() noexcept = 0;
  /// After the wait: what has been started is over when this returns.
  virtual void settle() noexcept {}
  /// After having been chosen while waiting: whether it was really served.
  [[nodiscard]] virtual bool served() { return true; }
  /// Calls the handler.
  virtual void run() = 0;
};

/// Links a case into a list, such that being woken chooses the case.
struct SelectLink {
  template <class Link>
  static void enlist(Link& link, WaitList& list, SelectWait& wait) noexcept {
    link.parking = &wait;
    link.woken = [](WaitLink& woken) noexcept {
      static_cast<SelectWait*>(woken.parking)->choose(*static_cast<Link&>(woken).of);
    };
    list.push(link);
  }
  static void delist(WaitLink& link) noexcept {
    if (link.linked()) link.list->remove(link);
  }
};

template <class Base>
struct LinkOfCase : Base {
  SelectCase* of = nullptr;
};

template <class T, class Exchange, class F>
class ReceiveCase final : public SelectCase {
 public:
  template <class G>
  ReceiveCase(Exchange& exchange, G&& handler) : exchange_(exchange), handler_(std::forward<G>(handler)) {}

  bool ready() noexcept override { return exchange_.receivable() && possible(); }
  bool possible() const noexcept override { return kWantsEnd || !exchange_.closed() || exchange_.has_value(); }
  void take() override { exchange_.take(value_); }
  bool enlist(SelectWait& wait) noexcept override {
    if (!possible()) return false;
    exchange_.enter();
    link_.of = this;
    link_.value = &value_;
    SelectLink::enlist(link_, exchange_.receivers(), wait);
    return false;
  }
  void delist() noexcept override { SelectLink::delist(link_); }
  bool served() override { return kWantsEnd || value_.has_value(); }
  void run() override {
    if constexpr (kWantsEnd) {
      std::invoke(handler_, std::move(value_));
    } else {
      std::invoke(handler_, std::move(*value_));
    }
  }

 private:
  // A handler that can not be told of the end is never called for it.
  static constexpr bool kWantsEnd = std::is_constructible_v<T, std::nullopt_t>
                                        ? std::is_invocable_v<F&, std::optional<T>> && !std::is_invocable_v<F&, T>
                                        : std::is_invocable_v<F&, std::nullopt_t>;

  Exchange& exchange_;
  F handler_;
  std::optional<T> value_;
  LinkOfCase<ReceiveLink<T>> link_;
};

template <class T, class Exchange, class F>
class SendCase final : public SelectCase {
 public:
  template <class G>
  SendCase(Exchange& exchange, T& value, G&& handler)
      : exchange_(exchange), value_(&value), handler_(std::forward<G>(handler)) {}
  template <class G>
  SendCase(Exchange& exchange, std::in_place_t, const T& value, G&& handler)
      : exchange_(exchange), copy_(value), value_(&*copy_), handler_(std::forward<G>(handler)) {}

  bool ready() noexcept override { return exchange_.sendable(); }
  void take() override {
    if (exchange_.offer(*value_) == Exchange::Offer::closed) throw ChannelClosed{};
  }
  bool enlist(SelectWait& wait) noexcept override {
    exchange_.enter();
    link_.of = this;
    link_.value = value_;
    SelectLink::enlist(link_, exchange_.senders(), wait);
    return false;
  }
  void delist() noexcept override { SelectLink::delist(link_); }
  bool served() override {
    Exchange::finish(link_);
    return true;
  }
  void run() override { std::invoke(handler_); }

 private:
  Exchange& exchange_;
  std::optional<T> copy_;
  T* value_;
  F handler_;
  LinkOfCase<SendLink<T>> link_;
};

/// For what is up or down, and has a list of who waits for its being up: is_set(), waiters(). What is used up by one,
/// like a permit, has consume() besides. Flag may be a reference.
template <class Flag, class F>
class FlagCase final : public SelectCase {
 public:
  template <class G>
  FlagCase(Flag flag, G&& handler) : flag_(flag), handler_(std::forward<G>(handler)) {}

  bool ready() noexcept override { return flag_.is_set(); }
  void take() override {
    if constexpr (requires(Flag & used) { used.consume(); }) flag_.consume();
  }
  bool enlist(SelectWait& wait) noexcept override {
    link_.of = this;
    SelectLink::enlist(link_, flag_.waiters(), wait);
    return false;
  }
  void delist() noexcept override { SelectLink::delist(link_); }
  void run() override { std::invoke(handler_); }

 private:
  Flag flag_;
  F handler_;
  LinkOfCase<WaitLink> link_;
};

}  // namespace bight::detail
