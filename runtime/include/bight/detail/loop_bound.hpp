// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <bight/detail/loop_face.hpp>

namespace bight::detail {

/// The loop that an object which fibers wait on belongs to: the first one that uses it, until that loop has ended.
/// Before, between and after loops anybody may use it for what does not wait.
///
/// One comparison per use finds out the fiber of another thread's loop, the thread without one, and the forked child.
class LoopBound {
 public:
  constexpr LoopBound() noexcept = default;

  /// Whether the calling thread's loop is the one.
  [[nodiscard]] bool here() const noexcept { return current_loop->serial == serial_; }
  /// Makes it so, where that is allowed; aborts with a sentence where another living loop has it.
  void enter() const noexcept {
    if (!here()) [[unlikely]]
      adopt();
  }

 private:
  static constexpr std::uint64_t kNobody = ~std::uint64_t{0};  // not no_loop's: outside of loops no shortcut is taken

  void adopt() const noexcept;

  mutable std::uint64_t serial_ = kNobody;
};

/// A loop's serial number, for as long as it lives; LoopBound asks who does. Throws std::bad_alloc.
class LoopSerial {
 public:
  LoopSerial();
  LoopSerial(const LoopSerial&) = delete;
  LoopSerial& operator=(const LoopSerial&) = delete;
  ~LoopSerial();
  [[nodiscard]] std::uint64_t get() const noexcept { return serial_; }

 private:
  std::uint64_t serial_;
};

}  // namespace bight::detail
