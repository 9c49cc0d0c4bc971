// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

namespace bight::detail {

// What recvmsg(2) and sendmsg(2) do with a msghdr.

/// All that its pieces hold.
[[nodiscard]] std::vector<std::byte> sim_gather(const ::msghdr& message);

/// As much of `data` as the pieces take. Returns how much that was.
std::size_t sim_scatter(std::span<const std::byte> data, const ::msghdr& message) noexcept;

[[nodiscard]] std::size_t sim_size(const ::msghdr& message) noexcept;

/// Fills in the control data of a message that is being received.
class SimControl {
 public:
  explicit SimControl(::msghdr& message) noexcept : message_(message), room_(message.msg_controllen) {
    message.msg_controllen = 0;
  }
  /// Without room for it: MSG_CTRUNC.
  void add(int level, int type, const void* value, std::size_t size) noexcept;

 private:
  ::msghdr& message_;
  std::size_t room_;
};

/// Calls `visit(const cmsghdr&)` for each piece of control data of a message to be sent. False: they are malformed.
template <class F>
[[nodiscard]] bool sim_for_each_control(const ::msghdr& message, F&& visit) {
  ::msghdr copy = message;
  for (::cmsghdr* each = CMSG_FIRSTHDR(&copy); each != nullptr; each = CMSG_NXTHDR(&copy, each)) {
    if (each->cmsg_len < sizeof(::cmsghdr)) return false;
    visit(*each);
  }
  return true;
}

}  // namespace bight::detail
