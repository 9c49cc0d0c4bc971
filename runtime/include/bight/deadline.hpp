// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Time limits and shields: scopes that bound everything done inside them, the fibers of a Scope opened inside
/// included.

#include <functional>
#include <type_traits>
#include <utility>

#include <bight/detail/cancel_scope.hpp>
#include <bight/detail/timer.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight {

/// A running time limit. with_timeout and its kin make one and hand it to the body, should the body take it, to be
/// moved or lifted. Made and used by one fiber, innermost first, on its stack. Setting and lifting a limit that never
/// expires is O(1) and makes no system call. A limit never expires early; one of 25 ms and more may be up to
/// 250 µs late.
class Deadline {
 public:
  explicit Deadline(TimePoint when) noexcept;
  explicit Deadline(Duration limit) noexcept;
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();

  void reset(TimePoint when) noexcept;  ///< moves the limit; without effect once it has expired
  void reset(Duration limit) noexcept;  ///< counted from now
  void disarm() noexcept;               ///< lifts the limit
  [[nodiscard]] bool expired() const noexcept { return scope_.requested(); }

  /// Ends the scope. True if a Cancelled that reached its boundary was caused by this limit and by no outer scope.
  [[nodiscard]] bool absorbs() noexcept;

 private:
  struct ScopeTimer : detail::Timer {
    explicit ScopeTimer(Deadline& owner) noexcept;
    Deadline* deadline;
  };

  void open() noexcept;
  void close() noexcept;

  detail::CancelScope scope_;
  ScopeTimer timer_;
  bool open_ = true;
};

/// Protects clean-up: inside, waits do not throw Cancelled, whatever was cancelled outside. Keep it short, or give it a
/// limit of its own.
class Shield {
 public:
  Shield() noexcept;
  Shield(const Shield&) = delete;
  Shield& operator=(const Shield&) = delete;
  ~Shield();

 private:
  detail::CancelScope scope_;
};

namespace detail {

template <class F>
decltype(auto) call_body(F& body, Deadline& deadline) {
  if constexpr (std::is_invocable_v<F&, Deadline&>) {
    return std::invoke(body, deadline);
  } else {
    return std::invoke(body);
  }
}

[[noreturn]] void throw_timed_out(Duration limit);
[[noreturn]] void throw_deadline_passed();

}  // namespace detail

/// Returns what `body()` (or `body(Deadline&)`) returns. When `limit` runs out first, the body's waits throw Cancelled
/// until it is unwound, and TimedOut is thrown from here. A body that finishes all the same keeps its result.
template <class F>
decltype(auto) with_timeout(Duration limit, F&& body) {
  Deadline deadline(limit);
  try {
    return detail::call_body(body, deadline);
  } catch (const Cancelled&) {
    if (!deadline.absorbs()) throw;
  }
  detail::throw_timed_out(limit);
}

/// The same with a point in time for a limit.
template <class F>
decltype(auto) with_deadline(TimePoint when, F&& body) {
  Deadline deadline(when);
  try {
    return detail::call_body(body, deadline);
  } catch (const Cancelled&) {
    if (!deadline.absorbs()) throw;
  }
  detail::throw_deadline_passed();
}

/// Runs `body` for at most `limit`. Returns whether it finished.
template <class F>
[[nodiscard]] bool move_on_after(Duration limit, F&& body) {
  Deadline deadline(limit);
  try {
    static_cast<void>(detail::call_body(body, deadline));
    return true;
  } catch (const Cancelled&) {
    if (!deadline.absorbs()) throw;
    return false;
  }
}

}  // namespace bight
