// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include <bight/descriptor.hpp>

#include "loop.hpp"
#include "perform.hpp"

namespace bight::detail {

/// What the kernel moves with one call at most: read(2), Notes.
inline constexpr std::size_t kLargestTransfer = 0x7ffff000;

[[nodiscard]] inline std::error_code to_error(int result) noexcept {
  return result < 0 ? std::error_code(-result, std::generic_category()) : std::error_code();
}

/// Stores a result's error and returns its value, or 0.
inline int settle(int result, std::error_code& error) noexcept {
  error = to_error(result);
  return std::max(result, 0);
}

/// What the loop is to know of a descriptor that has just been made. Null without memory for that; then the descriptor
/// is closed.
[[nodiscard]] FdState* admit(Loop& loop, int fd, std::error_code& error) noexcept;

/// A descriptor in use by a verb that waits more than once: the object may be gone after the first time, its number may
/// be another's.
struct Use {
  Use(int descriptor, FdState* its_state) noexcept
      : fd(descriptor), state(its_state), generation(its_state != nullptr ? its_state->generation : 0) {}
  [[nodiscard]] bool valid() const noexcept {
    return state != nullptr && state->open && state->generation == generation;
  }
  [[nodiscard]] int perform(Op& op, Direction direction) const {
    return valid() ? detail::perform(op, *state, direction) : -EBADF;
  }
  int fd;
  FdState* state;
  std::uint32_t generation;
};

}  // namespace bight::detail

/// Here, because it is on the way of every read and write.
inline int bight::Descriptor::perform(detail::Op& op, detail::Direction direction, std::error_code& error) {
  return detail::settle(fd_ < 0 ? -EBADF : detail::perform(op, *state_, direction), error);
}
