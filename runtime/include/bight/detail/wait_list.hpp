// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <type_traits>

#include <bight/detail/parking.hpp>
#include <bight/time.hpp>

namespace bight::detail {

class WaitList;

/// One fiber's place in one WaitList. Kept by whoever waits, usually in the frame of the wait, so waiting allocates
/// nothing. A fiber that waits for one of several things has a link in the list of each.
///
/// Whoever wakes a link has given it what it waited for: a permit, a value, the news. Before that it was taken out of
/// its list, and the links it had in other lists were, too. So a link in a list can always be served, each wait ends
/// for one reason alone, and nothing given is lost: a cancellation or a time limit that comes later finds the wait
/// over.
struct WaitLink {
  WaitLink() noexcept = default;
  WaitLink(const WaitLink&) = delete;
  WaitLink& operator=(const WaitLink&) = delete;

  [[nodiscard]] bool linked() const noexcept { return list != nullptr; }

  WaitLink* next = nullptr;
  WaitLink* previous = nullptr;
  WaitList* list = nullptr;                     // null: in none
  void (*woken)(WaitLink&) noexcept = nullptr;  // has the fiber made ready; runs no other code of the program's
  Parking* parking = nullptr;                   // for woken()
};

/// Links in the order in which they came. Intrusive; all but wake_all() are O(1), for a scope may cancel thousands who
/// wait for the same.
class WaitList {
 public:
  constexpr WaitList() noexcept = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] WaitLink* first() const noexcept { return first_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  void push(WaitLink& link) noexcept {
    link.list = this;
    link.next = nullptr;
    link.previous = last_;
    (last_ != nullptr ? last_->next : first_) = &link;
    last_ = &link;
    ++size_;
  }
  /// For who was first already.
  void push_front(WaitLink& link) noexcept {
    link.list = this;
    link.previous = nullptr;
    link.next = first_;
    (first_ != nullptr ? first_->previous : last_) = &link;
    first_ = &link;
    ++size_;
  }
  /// One that is in this list.
  void remove(WaitLink& link) noexcept {
    (link.previous != nullptr ? link.previous->next : first_) = link.next;
    (link.next != nullptr ? link.next->previous : last_) = link.previous;
    link.list = nullptr;
    --size_;
  }
  /// Takes one that is in this list out and wakes it. Waking never switches: it appends to the run queue.
  void wake(WaitLink& link) noexcept {
    remove(link);
    link.woken(link);
  }
  /// The first one; false if there is none.
  bool wake_one() noexcept {
    if (first_ == nullptr) return false;
    wake(*first_);
    return true;
  }
  /// All, first come, first woken. How many.
  std::size_t wake_all() noexcept {
    std::size_t count = 0;
    while (wake_one()) ++count;
    return count;
  }

 private:
  WaitLink* first_ = nullptr;
  WaitLink* last_ = nullptr;
  std::size_t size_ = 0;
};

/// Counts a fiber that has come to wait for an object and looks at it once more before it leaves, whatever has become
/// of its link: the object must not end before.
class Visit {
 public:
  explicit Visit(std::size_t& count) noexcept : count_(count) { ++count_; }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() { --count_; }

 private:
  std::size_t& count_;
};

/// How a wait has ended.
enum class WaitEnd : unsigned char { woken, timed_out, cancelled };

/// Appends what the link's fiber waits for, for reports.
using DescribeWait = void (*)(const WaitLink&, std::string&);

/// Parks the calling fiber, linked into `list`, until it is woken, `until` has come (TimePoint::max(): never) or the
/// fiber is cancelled, at once if it has been already. In the last two cases the link has left the list. `first`: it is
/// to be the first in the list, not the last.
[[nodiscard]] WaitEnd wait_in(WaitList& list, WaitLink& link, DescribeWait describe, TimePoint until = TimePoint::max(),
                              bool first = false) noexcept;

/// The same without limits: returns only when woken, whatever is cancelled.
void wait_uncancelled(WaitList& list, WaitLink& link, DescribeWait describe) noexcept;

/// wait_in() for who has nothing to undo: whether it was woken, or timed out; throws Cancelled.
bool wait_or_throw(WaitList& list, WaitLink& link, DescribeWait describe, TimePoint until = TimePoint::max(),
                   bool first = false);

/// When a wait that begins now and may take `limit` has to end.
[[nodiscard]] TimePoint limit_from_now(Duration limit) noexcept;

/// A time of any clock as the loop's: what is left until then, from now on.
template <class C, class D>
[[nodiscard]] TimePoint loop_time(const std::chrono::time_point<C, D>& when) {
  if constexpr (std::is_same_v<C, Clock>) {
    return TimePoint(saturating_duration(when.time_since_epoch()));
  } else {
    return limit_from_now(saturating_duration(when - C::now()));
  }
}

}  // namespace bight::detail
