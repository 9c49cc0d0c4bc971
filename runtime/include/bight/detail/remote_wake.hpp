// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bight::detail {

/// Something to be done on a loop's thread that needs no memory and can not be refused for want of room: a node in the
/// frame of whoever waits for it. While it is queued it stays where it is. `deliver` runs on the loop's thread, outside
/// any fiber, and may end the node's life.
struct RemoteWake {
  using Deliver = void (*)(RemoteWake&) noexcept;

  explicit RemoteWake(Deliver on_delivery) noexcept : deliver(on_delivery) {}
  RemoteWake(const RemoteWake&) = delete;
  RemoteWake& operator=(const RemoteWake&) = delete;

  Deliver deliver;
  RemoteWake* next_wake = nullptr;  // in a RemoteQueue
};

}  // namespace bight::detail
