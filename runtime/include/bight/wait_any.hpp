// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Waiting for several at once: fibers, futures, events, latches, in any number.

#include <array>
#include <cstddef>
#include <iterator>
#include <memory>
#include <ranges>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/detail/parking.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {

/// What is waited for: something that comes up, is_set(), and a list of who waits for it. Not what is used up by being
/// waited for, as a permit is, for who waits for several may get several.
template <class T>
concept Waitable = requires(T& object) {
  { object.is_set() } -> std::convertible_to<bool>;
  { object.waiters() } -> std::same_as<WaitList&>;
}
&&!requires(T & object) { object.consume(); };

template <class R>
[[nodiscard]] FiberEnd flag_of(const Fiber<R>& fiber) noexcept {
  return fiber.end_of_it();
}
template <Waitable T>
[[nodiscard]] T& flag_of(T& object) noexcept {
  return object;
}

/// Notes in which order things come up, while a fiber waits for some of them, or does something else meanwhile. Its
/// links leave their lists when it ends.
class Watch {
 public:
  explicit Watch(std::size_t count);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  /// Of the things in their order: one that is up already, or the list of one that is not.
  void add_ready(std::size_t index);
  void add(std::size_t index, WaitList& list) noexcept;

  /// Waits until at least `count` (at most all) are up, or `until`; whether they are. Throws Cancelled.
  bool wait(std::size_t count, TimePoint until);
  /// Those that are, first come first.
  [[nodiscard]] const std::vector<std::size_t>& ready() const noexcept { return ready_; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }

 private:
  struct Link;
  static void note(WaitLink& link) noexcept;

  std::size_t count_;
  std::unique_ptr<Link[]> links_;
  std::vector<std::size_t> ready_;  // with room for all
  std::size_t wanted_ = 0;
  WaitList enough_;  // the fiber in wait()
};

template <class Range>
void watch_range(Watch& watch, Range& range) {
  std::size_t index = 0;
  for (auto& each : range) {
    auto&& flag = flag_of(each);
    if (flag.is_set()) {
      watch.add_ready(index);
    } else {
      watch.add(index, flag.waiters());
    }
    ++index;
  }
}

template <class Range>
concept WaitableRange = std::ranges::sized_range<Range> && requires(Range& range) {
  flag_of(*std::ranges::begin(range));
};

}  // namespace detail

/// Waits until `count` of the objects in `range` (Fiber, Future, Event, Latch, WaitGroup) are done or set, or `until`
/// has come, and returns which, in the order in which that happened; those that were so before come first, in their own
/// order. That many exactly, or fewer when `until` came; a `count` beyond the range's size means all. Does not throw
/// their errors. Throws Cancelled if it has to wait. O(size), two allocations.
template <detail::WaitableRange Range>
[[nodiscard]] std::vector<std::size_t> wait_n(Range&& range, std::size_t count, TimePoint until = TimePoint::max()) {
  detail::Watch watch(std::ranges::size(range));
  detail::watch_range(watch, range);
  watch.wait(count, until);
  std::vector<std::size_t> ready = watch.ready();
  if (ready.size() > count) ready.resize(count);
  return ready;
}

/// Waits for the first; its place in the range, which must not be empty.
template <detail::WaitableRange Range>
requires(!detail::Waitable<std::remove_reference_t<Range>>) [[nodiscard]] std::size_t wait_any(Range&& range) {
  BIGHT_CHECK(std::ranges::size(range) > 0, "wait_any of nothing would wait for ever");
  return wait_n(range, 1).front();
}
/// Waits for the first of the arguments, of any kinds.
template <class First, class Second, class... Rest>
[[nodiscard]] std::size_t wait_any(First&& first, Second&& second, Rest&&... rest) {
  detail::Watch watch(2 + sizeof...(Rest));
  std::size_t index = 0;
  const auto add = [&](auto& each) {
    auto&& flag = detail::flag_of(each);
    if (flag.is_set()) {
      watch.add_ready(index);
    } else {
      watch.add(index, flag.waiters());
    }
    ++index;
  };
  add(first);
  add(second);
  (add(rest), ...);
  watch.wait(1, TimePoint::max());
  return watch.ready().front();
}

/// Whether join_all throws the first error in time as soon as it happens, leaving the others to go on.
enum class RaiseFirst : bool { no, yes };

/// Waits until all have ended. With RaiseFirst::yes it throws the error (FiberCancelled included) of the first one to
/// fail, at once. For fibers that end together use a Scope.
template <detail::WaitableRange Range>
void join_all(Range&& range, RaiseFirst raise = RaiseFirst::no) {
  detail::Watch watch(std::ranges::size(range));
  detail::watch_range(watch, range);
  for (std::size_t seen = 0; seen < watch.size(); ++seen) {
    watch.wait(raise == RaiseFirst::yes ? seen + 1 : watch.size(), TimePoint::max());
    if (raise == RaiseFirst::no) return;
    const auto which = static_cast<std::ptrdiff_t>(watch.ready()[seen]);
    auto& ended = *std::ranges::next(std::ranges::begin(range), which);
    if constexpr (requires { ended.rethrow_error(); }) ended.rethrow_error();
  }
}

/// Goes through the places of the objects in a range in the order in which they end:
///
///     for (std::size_t which : as_completed(fibers)) use(fibers[which].get());
///
/// Waiting for the next one is part of the iteration, and throws Cancelled. The loop may be left early. The range must
/// outlive it and not be changed.
class AsCompleted {
 public:
  template <detail::WaitableRange Range>
  explicit AsCompleted(Range& range) : watch_(std::ranges::size(range)) {
    detail::watch_range(watch_, range);
  }

  class Iterator {
   public:
    using value_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(detail::Watch& watch) noexcept : watch_(&watch) {}
    /// Waits.
    [[nodiscard]] std::size_t operator*() const {
      watch_->wait(seen_ + 1, TimePoint::max());
      return watch_->ready()[seen_];
    }
    Iterator& operator++() noexcept {
      ++seen_;
      return *this;
    }
    void operator++(int) noexcept { ++seen_; }
    bool operator==(std::default_sentinel_t) const noexcept { return seen_ == watch_->size(); }

   private:
    detail::Watch* watch_;
    std::size_t seen_ = 0;
  };

  [[nodiscard]] Iterator begin() noexcept { return Iterator(watch_); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  detail::Watch watch_;
};

template <detail::WaitableRange Range>
[[nodiscard]] AsCompleted as_completed(Range& range) {
  return AsCompleted(range);
}

}  // namespace bight
