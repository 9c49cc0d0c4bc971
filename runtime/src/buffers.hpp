// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bight::detail {

/// The loop's receive buffers: a fixed set of 64 KiB ones, taken last in first out so that few of them are ever
/// touched, and 4 KiB ones from the heap once those are all lent. An engine that hands the fixed set to the kernel
/// (uring) takes them all and is told of each return.
class BufferPool {
 public:
  struct Buffer {
    std::byte* data = nullptr;
    std::uint32_t size = 0;
    std::uint32_t id = 0;
  };

  static constexpr std::uint32_t kSize = 64 * 1024;
  static constexpr std::uint32_t kSmallSize = 4 * 1024;
  static constexpr std::uint32_t kOnHeap = 0xffffffff;  // the id of one that is none of the fixed set

  explicit BufferPool(std::size_t count);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// A 64 KiB buffer if one is free, else a small one. Data null: out of memory.
  [[nodiscard]] Buffer take() noexcept;
  [[nodiscard]] Buffer take_small() noexcept { return take_heap(kSmallSize); }
  /// One of any size from the heap. Data null: out of memory.
  [[nodiscard]] Buffer take_heap(std::uint32_t size) noexcept;
  void give_back(std::byte* data, std::uint32_t id) noexcept;

  /// From now on fixed buffers go to and come from the kernel: `on_return(owner, id)` is called for each that comes
  /// back.
  using OnReturn = void (*)(void* owner, std::uint32_t id) noexcept;
  void hand_over(void* owner, OnReturn on_return) noexcept;
  void take_back() noexcept { on_return_ = nullptr; }
  void note_lent() noexcept { ++lent_; }

  [[nodiscard]] std::byte* address(std::uint32_t id) const noexcept;
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t lent() const noexcept { return lent_; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t count_;
  std::size_t lent_ = 0;
  std::vector<std::uint32_t> free_;
  void* owner_ = nullptr;
  OnReturn on_return_ = nullptr;
};

}  // namespace bight::detail
