// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Go's select: waits for the first of several things, and does that one.
///
///     select(orders.on_receive([&](Order order) { book(order); }),
///            answers.on_send(next, [&] { next = make_answer(); }),
///            stop.on_set([&] { running = false; }),
///            worker.on_end([&] { restart(); }),
///            socket.on_readable([&] { drain(socket); }),
///            after(100ms, [&] { flush(); }));

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>

#include <bight/detail/select_case.hpp>
#include <bight/time.hpp>

namespace bight {
namespace detail {

/// Waits for one of the cases, has it, and returns which; `otherwise` or the number of cases: none was ready.
[[nodiscard]] std::size_t choose_case(std::span<SelectCase* const> cases, SelectCase* otherwise);

struct SelectTimer : Timer {
  explicit SelectTimer(SelectCase& whose) noexcept;
  SelectCase& of;
  SelectWait* wait = nullptr;
};

/// What on time cases does not depend on the handler.
class TimeCaseBase : public SelectCase {
 public:
  explicit TimeCaseBase(TimePoint when) noexcept : when_(when), timer_(*this) {}
  bool ready() noexcept override;
  bool enlist(SelectWait& wait) noexcept override;
  void delist() noexcept override;

 private:
  TimePoint when_;
  SelectTimer timer_;
};

template <class F>
class TimeCase final : public TimeCaseBase {
 public:
  template <class G>
  TimeCase(TimePoint when, G&& handler) : TimeCaseBase(when), handler_(std::forward<G>(handler)) {}
  void run() override { std::invoke(handler_); }

 private:
  F handler_;
};

/// The case that needs no waiting for.
template <class F>
class DefaultCase final : public SelectCase {
 public:
  template <class G>
  explicit DefaultCase(G&& handler) : handler_(std::forward<G>(handler)) {}
  bool ready() noexcept override { return false; }
  bool enlist(SelectWait&) noexcept override { return false; }
  void delist() noexcept override {}
  void run() override { std::invoke(handler_); }

 private:
  F handler_;
};

template <class Case>
inline constexpr bool kIsDefault = false;
template <class F>
inline constexpr bool kIsDefault<DefaultCase<F>> = true;

}  // namespace detail

/// The case of a time limit. Counted from here.
template <class Rep, class Period, class F>
[[nodiscard]] auto after(const std::chrono::duration<Rep, Period>& limit, F&& handler) {
  return detail::TimeCase<std::decay_t<F>>(detail::limit_from_now(detail::saturating_duration(limit)),
                                           std::forward<F>(handler));
}
/// The same with a point in time.
template <class F>
[[nodiscard]] auto at(TimePoint when, F&& handler) {
  return detail::TimeCase<std::decay_t<F>>(when, std::forward<F>(handler));
}
/// The default case: when no other one is ready, this is done at once, and the select does not wait. At most one.
template <class F>
[[nodiscard]] auto otherwise(F&& handler) {
  return detail::DefaultCase<std::decay_t<F>>(std::forward<F>(handler));
}

/// Waits until one of the cases is ready, has it happen, and calls its handler; the others have not happened. Of
/// several that are ready one is chosen at random, each with the same chance, so none is starved. Returns the place of
/// the case among the arguments.
///
/// Cases: Channel::on_receive and on_send, Event::on_set, AutoResetEvent::on_set, Semaphore::on_acquire,
/// Latch::on_open, WaitGroup::on_zero, Future::on_ready, Fiber::on_end, Queue::on_get, Socket::on_readable and
/// on_writable, after(), at(), otherwise(). They are made in the call. What they name must live until select() returns.
///
/// The handlers run after the wait, in the calling fiber; they may wait, and throw. Throws Cancelled if it has to wait:
/// then none has happened. ChannelClosed, when a send is chosen whose channel is closed, or when there is nothing left
/// to wait for: only channels that are closed and whose handlers want a value. O(cases).
template <class... Cases>
requires(sizeof...(Cases) > 0 && (std::is_base_of_v<detail::SelectCase, Cases> && ...)) std::size_t
    select(Cases&&... cases) {
  constexpr std::size_t kDefaults = (std::size_t{detail::kIsDefault<Cases>} + ...);
  static_assert(kDefaults <= 1, "there can be one default case");
  const std::array<detail::SelectCase*, sizeof...(Cases)> all{&cases...};
  detail::SelectCase* otherwise = nullptr;
  ((detail::kIsDefault<Cases> ? static_cast<void>(otherwise = &cases) : static_cast<void>(0)), ...);
  const std::size_t chosen = detail::choose_case(all, otherwise);
  all[chosen]->run();
  return chosen;
}

}  // namespace bight
