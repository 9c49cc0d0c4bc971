// SPDX-License-Identifier: Apache-2.0
#include "timers.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace bight::detail {
namespace {

bool earlier(const Timer& a, const Timer& b) noexcept {
  return a.deadline != b.deadline ? a.deadline < b.deadline : a.sequence < b.sequence;
}

}  // namespace

Timers::Timers(TimePoint start) noexcept : now_tick_(tick_of(start)) {}

std::uint64_t Timers::tick_of(TimePoint time) noexcept {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(time.time_since_epoch().count(), 0)) >> kTickShift;
}

void Timers::arm(Timer& timer, TimePoint deadline) noexcept {
  if (timer.armed()) disarm(timer);
  timer.deadline = deadline;
  timer.sequence = sequence_++;
  ++armed_;
  place(timer);
}

void Timers::disarm(Timer& timer) noexcept {
  if (!timer.armed()) return;
  if (timer.place == kInHeap) {
    heap_remove(timer);
  } else {
    unlink(timer);
  }
  timer.place = Timer::kIdle;
  --armed_;
}

void Timers::place(Timer& timer) noexcept {
  const std::uint64_t tick = tick_of(timer.deadline);
  if (tick <= now_tick_) {
    heap_push(timer);
    return;
  }
  const unsigned level = (63U - static_cast<unsigned>(std::countl_zero(tick ^ now_tick_))) / kSlotBits;
  const unsigned slot = static_cast<unsigned>(tick >> (level * kSlotBits)) % kSlots;
  Timer*& head = slots_[level][slot];
  timer.place = level * kSlots + slot;
  timer.previous = nullptr;
  timer.next = head;
  if (head != nullptr) head->previous = &timer;
  head = &timer;
  occupied_[level] |= std::uint64_t{1} << slot;
}

void Timers::unlink(Timer& timer) noexcept {
  if (timer.next != nullptr) timer.next->previous = timer.previous;
  if (timer.previous != nullptr) {
    timer.previous->next = timer.next;
    return;
  }
  const unsigned level = timer.place / kSlots;
  const unsigned slot = timer.place % kSlots;
  slots_[level][slot] = timer.next;
  if (timer.next == nullptr) occupied_[level] &= ~(std::uint64_t{1} << slot);
}

bool Timers::find_next(Next& next) const noexcept {
  for (unsigned level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const unsigned slot = static_cast<unsigned>(std::countr_zero(occupied_[level]));
    const unsigned shift = level * kSlotBits;
    const unsigned above = shift + kSlotBits;
    const std::uint64_t prefix = above < 64 ? (now_tick_ >> above) << above : 0;
    next = {prefix | (std::uint64_t{slot} << shift), level, slot};
    return true;
  }
  return false;
}

void Timers::open_slot(const Next& next) noexcept {
  now_tick_ = next.tick;
  Timer* timer = std::exchange(slots_[next.level][next.slot], nullptr);
  occupied_[next.level] &= ~(std::uint64_t{1} << next.slot);
  while (timer != nullptr) place(*std::exchange(timer, timer->next));
}

std::size_t Timers::expire(TimePoint now) noexcept {
  const std::uint64_t target = tick_of(now);
  Next next{};
  while (find_next(next) && next.tick <= target) open_slot(next);
  now_tick_ = std::max(now_tick_, target);

  // What a firing timer arms for a time that has come already waits for the next call, so that a timer that rearms
  // itself can not keep the loop here.
  firing_ = true;
  std::size_t fired = 0;
  while (heap_ != nullptr && heap_->deadline <= now) {
    Timer& timer = *heap_;
    heap_remove(timer);
    timer.place = Timer::kIdle;
    --armed_;
    ++fired;
    timer.fire(timer);
  }
  firing_ = false;
  heap_ = meld(heap_, std::exchange(later_, nullptr));
  return fired;
}

TimePoint Timers::next() const noexcept {
  if (heap_ != nullptr) return heap_->deadline;
  Next next{};
  if (!find_next(next)) return TimePoint::max();
  // The exact first deadline, where finding it is cheap: waking at the slot's start would mean to wake twice.
  constexpr int kScanned = 16;
  TimePoint first = TimePoint::max();
  int scanned = 0;
  for (const Timer* timer = slots_[next.level][next.slot]; timer != nullptr; timer = timer->next) {
    if (++scanned > kScanned) return TimePoint(Duration(static_cast<std::int64_t>(next.tick << kTickShift)));
    first = std::min(first, timer->deadline);
  }
  return first;
}

// The heap: `previous` is the left sibling, or the parent for a first child; `next` the right sibling; `child` the
// first child.

void Timers::heap_push(Timer& timer) noexcept {
  timer.place = kInHeap;
  timer.previous = timer.next = timer.child = nullptr;
  Timer*& heap = firing_ ? later_ : heap_;
  heap = meld(heap, &timer);
}

void Timers::heap_remove(Timer& timer) noexcept {
  Timer* orphans = meld_siblings(timer.child);
  if (&timer == heap_) {
    heap_ = orphans;
  } else if (&timer == later_) {
    later_ = orphans;
  } else {
    if (timer.previous->child == &timer) {
      timer.previous->child = timer.next;
    } else {
      timer.previous->next = timer.next;
    }
    if (timer.next != nullptr) timer.next->previous = timer.previous;
    heap_ = meld(heap_, orphans);
  }
}

Timer* Timers::meld(Timer* a, Timer* b) noexcept {
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  if (earlier(*b, *a)) std::swap(a, b);
  b->previous = a;
  b->next = a->child;
  if (a->child != nullptr) a->child->previous = b;
  a->child = b;
  a->previous = a->next = nullptr;
  return a;
}

/// The standard two passes, iteratively: melds neighbours in pairs from left to right, then the pairs from right to
/// left.
Timer* Timers::meld_siblings(Timer* first) noexcept {
  Timer* pairs = nullptr;  // a stack, linked by next
  while (first != nullptr) {
    Timer* a = first;
    Timer* b = a->next;
    first = b != nullptr ? b->next : nullptr;
    a->previous = a->next = nullptr;
    if (b != nullptr) b->previous = b->next = nullptr;
    Timer* pair = meld(a, b);
    pair->next = pairs;
    pairs = pair;
  }
  Timer* root = nullptr;
  while (pairs != nullptr) {
    Timer* pair = std::exchange(pairs, pairs->next);
    pair->next = nullptr;
    root = meld(root, pair);
  }
  return root;
}

}  // namespace bight::detail
