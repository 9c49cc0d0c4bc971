// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <bight/detail/timer.hpp>

namespace bight::detail {

/// The loop's timers. Arming and cancelling a timer that is more than a tick away is O(1): a hierarchical timing wheel
/// (Varghese and Lauck, 1987) of eight levels of 64 slots, with ticks of 2^20 ns, which covers every representable
/// time. When a tick comes, its timers move to a pairing heap that orders them exactly, so nothing fires early, or late
/// by a tick, or out of order.
///
/// Invariant: a timer on level L shares with now_tick_ all bits above that level's six, and differs in those six; so
/// the first occupied slot of the lowest occupied level is the next to come.
class Timers {
 public:
  Timers(TimePoint start) noexcept;  // NOLINT(google-explicit-constructor)

  void arm(Timer& timer, TimePoint deadline) noexcept;
  void disarm(Timer& timer) noexcept;

  /// Fires what is due, in order of deadline, then of arming. Firing may arm and disarm timers. Returns how many fired.
  std::size_t expire(TimePoint now) noexcept;

  /// When expire() should next be called; TimePoint::max() when nothing is armed. May be earlier than the first
  /// deadline where very many timers are close together, never later.
  [[nodiscard]] TimePoint next() const noexcept;

  [[nodiscard]] std::size_t armed() const noexcept { return armed_; }

 private:
  static constexpr unsigned kTickShift = 20;
  static constexpr unsigned kLevels = 8;
  static constexpr unsigned kSlotBits = 6;
  static constexpr unsigned kSlots = 1U << kSlotBits;
  static constexpr std::uint32_t kInHeap = kLevels * kSlots;

  struct Next {
    std::uint64_t tick;
    unsigned level;
    unsigned slot;
  };

  static std::uint64_t tick_of(TimePoint time) noexcept;
  void place(Timer& timer) noexcept;
  void unlink(Timer& timer) noexcept;
  [[nodiscard]] bool find_next(Next& next) const noexcept;
  void open_slot(const Next& next) noexcept;

  void heap_push(Timer& timer) noexcept;
  void heap_remove(Timer& timer) noexcept;
  static Timer* meld(Timer* a, Timer* b) noexcept;
  static Timer* meld_siblings(Timer* first) noexcept;

  std::uint64_t now_tick_;
  std::uint64_t sequence_ = 0;
  std::size_t armed_ = 0;
  Timer* heap_ = nullptr;
  Timer* later_ = nullptr;  // a heap, too: armed while others fire, for a time that has come already
  bool firing_ = false;
  std::array<std::uint64_t, kLevels> occupied_{};
  std::array<std::array<Timer*, kSlots>, kLevels> slots_{};
};

}  // namespace bight::detail
