// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace bight::detail {

/// A queue of values in one piece of memory, which grows by doubling and never shrinks.
template <class T>
class RingBuffer {
  static_assert(std::is_nothrow_move_constructible_v<T>,
                "values that change threads must move without throwing: a std::unique_ptr to one does");

 public:
  RingBuffer() noexcept = default;
  RingBuffer(const RingBuffer&) = delete;
  RingBuffer& operator=(const RingBuffer&) = delete;
  ~RingBuffer() {
    while (size_ > 0) static_cast<void>(pop());
    release();
  }

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool full() const noexcept { return size_ == room_; }

  /// Makes room for one more. Throws std::bad_alloc.
  void grow() { reserve(room_ == 0 ? 16 : 2 * room_); }
  /// Makes room for `count`, rounded up to a power of two.
  void reserve(std::size_t count) {
    if (count > std::allocator_traits<std::allocator<T>>::max_size({}) / 2) throw std::bad_alloc();
    std::size_t room = 1;
    while (room < count) room *= 2;
    if (room <= room_) return;
    T* fresh = std::allocator<T>().allocate(room);
    const std::size_t kept = size_;
    for (std::size_t i = 0; i < kept; ++i) ::new (static_cast<void*>(fresh + i)) T(pop());
    release();
    values_ = fresh;
    room_ = room;
    first_ = 0;
    size_ = kept;
  }

  /// There must be room.
  void push(T&& value) noexcept {
    ::new (static_cast<void*>(values_ + ((first_ + size_) & (room_ - 1)))) T(std::move(value));
    ++size_;
  }
  /// There must be one.
  [[nodiscard]] T pop() noexcept {
    T& first = values_[first_];
    T value(std::move(first));
    first.~T();
    first_ = (first_ + 1) & (room_ - 1);
    --size_;
    return value;
  }

  void swap(RingBuffer& other) noexcept {
    std::swap(values_, other.values_);
    std::swap(room_, other.room_);
    std::swap(first_, other.first_);
    std::swap(size_, other.size_);
  }

 private:
  void release() noexcept {
    if (values_ != nullptr) std::allocator<T>().deallocate(values_, room_);
  }

  T* values_ = nullptr;
  std::size_t room_ = 0;  // a power of two, or 0
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace bight::detail
