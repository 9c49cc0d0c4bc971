// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include <bight/time.hpp>

#include "engine/receive_feed.hpp"

namespace bight::detail {

/// The kernel may forget to tell a multishot receive of a hang-up that comes right behind data: both wake it before it
/// runs, it takes the data, finds the socket empty, and waits on for ever (seen on Linux 6.18 with resets over TCP;
/// liburing's issue 1549 has it with ends over Unix sockets). What is forgotten has happened by the time the data is
/// delivered. So each feed that has delivered data is looked at once, a little later: all of them with one poll(2), and
/// not for each message.
class HangupCheck {
 public:
  static constexpr Duration kDelay = std::chrono::milliseconds(50);

  /// The feed has delivered data, and may deliver more.
  template <class Clock>
  void add(ReceiveFeed& feed, Clock&& now) noexcept {
    if (feed.unchecked) return;
    if (first_ == nullptr) due_ = now() + kDelay;
    feed.unchecked = true;
    feed.previous_unchecked = nullptr;
    feed.next_unchecked = first_;
    if (first_ != nullptr) first_->previous_unchecked = &feed;
    first_ = &feed;
  }
  /// Harmless for one that is not to be looked at.
  void remove(ReceiveFeed& feed) noexcept;

  /// When to call run(); TimePoint::max(): there is nothing to look at.
  [[nodiscard]] TimePoint due() const noexcept { return first_ == nullptr ? TimePoint::max() : due_; }

  /// Looks at all of them, and calls `found` for each whose peer has hung up.
  template <class Found>
  void run(Found&& found) noexcept {
    Batch batch;
    while (look_at_some(batch)) {
      for (std::size_t i = 0; i < batch.count; ++i) {
        if (batch.hung_up[i]) found(*batch.feeds[i]);
      }
    }
  }

 private:
  static constexpr std::size_t kBatch = 128;
  struct Batch {
    std::size_t count = 0;
    std::array<ReceiveFeed*, kBatch> feeds;
    std::array<bool, kBatch> hung_up;
  };
  [[nodiscard]] bool look_at_some(Batch& batch) noexcept;

  ReceiveFeed* first_ = nullptr;
  TimePoint due_{};
};

}  // namespace bight::detail
