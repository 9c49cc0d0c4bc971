// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Something that has happened, or not, for several processes to wait for.

#include <chrono>
#include <memory>

#include <bight/shared_memory.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {
class Token;
}

/// Is set or clear; any process changes it, any number of fibers and threads of any process wait until it is set. Made
/// before the fork, used by reference on both sides. Nobody owns it, so nobody's death matters; a process that is
/// killed while it sets or clears it may delay others by process_event_recheck.
///
/// Who waits when it is set is let go, also if it is cleared at once. A fiber waits in its loop, a thread without one
/// in poll(2). Waiting takes a descriptor each.
class ProcessEvent {
 public:
  /// Throws std::system_error.
  ProcessEvent();
  ProcessEvent(const ProcessEvent&) = delete;
  ProcessEvent& operator=(const ProcessEvent&) = delete;
  ~ProcessEvent();

  /// Do not wait.
  [[nodiscard]] bool is_set() const noexcept;
  void set() noexcept;
  void clear() noexcept;

  /// Waits until it is set. Throws Cancelled if it has to wait, and std::system_error (too_many_files_open;
  /// operation_not_supported under the sim engine, which has no other processes).
  void wait() { static_cast<void>(wait_until(TimePoint::max())); }
  /// Waits for `limit` at most. Whether it was set.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return wait_until(limit <= limit.zero() ? TimePoint::min()
                                            : detail::saturating_add(now(), detail::saturating_duration(limit)));
  }

 private:
  [[nodiscard]] bool wait_until(TimePoint until);

  SharedMemory memory_;
  std::unique_ptr<detail::Token> token_;
};

/// How late those who wait may learn of it when the process that sets it is killed in the middle of that.
inline constexpr Duration process_event_recheck = std::chrono::milliseconds(100);

}  // namespace bight
