// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bight/fd.hpp>

namespace bight::detail {

/// What processes that wait are told by that it is time to look again: a descriptor (an eventfd) that is readable from
/// post() to the next take(). All who wait for it wake. It tells nothing else, so one too many does no harm.
class Token {
 public:
  /// Throws std::system_error.
  Token();
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  void post() const noexcept;
  void take() const noexcept;

 private:
  Fd fd_;
};

}  // namespace bight::detail
