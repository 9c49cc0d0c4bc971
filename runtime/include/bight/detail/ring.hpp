// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace bight::detail {

/// A first-in, first-out buffer in one piece of memory, which doubles when it is full and is kept: in a steady state
/// nothing is allocated, as std::deque does all the time. An element whose move throws stays where it was, if it can.
template <class T>
class Ring {
 public:
  Ring() noexcept = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    clear();
    if (room_ > 0) std::allocator<T>().deallocate(memory_, room_);
  }

  [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
  [[nodiscard]] std::size_t size() const noexcept { return tail_ - head_; }

  /// Makes room for `count`, so that so many can be pushed without throwing (if their moves do not). Throws
  /// std::bad_alloc.
  void reserve(std::size_t count) {
    if (count > kMost) throw std::bad_alloc();
    if (count > room_) move_to(std::bit_ceil(count));
  }
  /// Has not moved from `value` when it throws for want of memory.
  void push(T&& value) {
    if (size() == room_) [[unlikely]]
      move_to(room_ == 0 ? 4 : room_ * 2);
    ::new (static_cast<void*>(at(tail_))) T(std::move(value));
    ++tail_;
  }
  /// The oldest one, for all of these. There must be one.
  [[nodiscard]] T& front() noexcept { return *at(head_); }
  void pop() noexcept {
    at(head_)->~T();
    ++head_;
  }
  void clear() noexcept {
    while (!empty()) pop();
  }
  void swap(Ring& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(room_, other.room_);
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
  }
  void take(std::optional<T>& result) {
    result.emplace(std::move(*at(head_)));
    pop();
  }

 private:
  static constexpr std::size_t kMost = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(T) / 2;

  [[nodiscard]] T* at(std::size_t position) const noexcept { return memory_ + (position & (room_ - 1)); }

  void move_to(std::size_t room) {
    T* memory = std::allocator<T>().allocate(room);
    std::size_t moved = 0;
    try {
      for (; moved < size(); ++moved) {
        ::new (static_cast<void*>(memory + moved)) T(std::move_if_noexcept(*at(head_ + moved)));
      }
    } catch (...) {
      while (moved > 0) memory[--moved].~T();
      std::allocator<T>().deallocate(memory, room);
      throw;
    }
    clear();
    if (room_ > 0) std::allocator<T>().deallocate(memory_, room_);
    memory_ = memory;
    room_ = room;
    head_ = 0;
    tail_ = moved;
  }

  T* memory_ = nullptr;
  std::size_t room_ = 0;  // a power of two, or 0
  std::size_t head_ = 0;  // both count on; their low bits are the place
  std::size_t tail_ = 0;
};

}  // namespace bight::detail
