// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Memory that processes share, and arrays, values and counters in it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>

#include <bight/check.hpp>
#include <bight/fd.hpp>

namespace bight {

/// Memory that this process shares with those it forks, and with whom it sends the descriptor to. Starts as zeros.
///
/// A handle: copies are the same memory, which goes with the last handle of the last process, whatever ended that. It
/// has no name that could be left behind in the file system; so who is to use it inherits it, or is sent its
/// descriptor:
///
///     connection.send_with_fds({}, std::array{memory.fd()});                     // here
///     SharedMemory memory(std::move(connection.receive_message()->fds.at(0)));   // there
///
/// It can neither shrink nor grow (it is a sealed memfd), so nobody can pull it away under another's hands. Pages take
/// room when first touched; when the machine has none left the toucher is killed (SIGBUS, or by the kernel's choice).
///
/// Nothing here waits, or needs a loop. What several processes write at the same time is a data race, as between
/// threads: use a ProcessLock, or SharedValue.
class SharedMemory {
 public:
  SharedMemory() noexcept = default;
  /// That many bytes, one at least. Throws std::system_error (std::errc::invalid_argument: none; not_enough_memory).
  explicit SharedMemory(std::size_t size);
  /// Takes over what was received from another process. Throws std::system_error (invalid_argument unless it is the
  /// descriptor of a SharedMemory: another's size might change).
  explicit SharedMemory(Fd fd);

  [[nodiscard]] explicit operator bool() const noexcept { return mapping_ != nullptr; }
  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] std::span<std::byte> span() const noexcept { return {data(), size()}; }
  /// The descriptor, to be sent to other processes; stays owned by this. -1: there is none.
  [[nodiscard]] int fd() const noexcept;

  /// The T at an offset in bytes. Aborts with a sentence where there is no room for one, or it is not aligned.
  template <class T>
  [[nodiscard]] T& as(std::size_t offset = 0) const noexcept {
    static_assert(std::is_trivially_destructible_v<T> && !std::is_pointer_v<T>,
                  "shared memory holds plain data; a pointer means nothing in another process");
    BIGHT_CHECK(offset <= size() && size() - offset >= sizeof(T),
                "a SharedMemory is too small for what is asked of it");
    BIGHT_CHECK(offset % alignof(T) == 0, "what is asked of a SharedMemory is not aligned");
    return *std::launder(reinterpret_cast<T*>(data() + offset));
  }

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
};

/// A fixed number of T in shared memory, zeros at first. A handle, as SharedMemory is.
template <class T>
class SharedArray {
  static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>, "shared memory holds plain data");

 public:
  SharedArray() noexcept = default;
  /// `count` of them, one at least. Throws std::system_error.
  explicit SharedArray(std::size_t count) : memory_(bytes_of(count)) {}
  /// One that was received, or a part of something larger.
  explicit SharedArray(SharedMemory memory) noexcept : memory_(std::move(memory)) {}

  [[nodiscard]] std::size_t size() const noexcept { return memory_.size() / sizeof(T); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] T* data() const noexcept { return reinterpret_cast<T*>(memory_.data()); }
  [[nodiscard]] std::span<T> span() const noexcept { return {data(), size()}; }
  [[nodiscard]] T* begin() const noexcept { return data(); }
  [[nodiscard]] T* end() const noexcept { return data() + size(); }
  /// Aborts with a sentence when there is no such one.
  [[nodiscard]] T& operator[](std::size_t index) const noexcept {
    BIGHT_CHECK(index < size(), "a SharedArray has no such element");
    return data()[index];
  }
  [[nodiscard]] const SharedMemory& memory() const noexcept { return memory_; }

 private:
  static std::size_t bytes_of(std::size_t count) {
    if (count > static_cast<std::size_t>(-1) / sizeof(T)) {
      throw std::system_error(std::make_error_code(std::errc::not_enough_memory), "make a SharedArray");
    }
    return count * sizeof(T);
  }

  SharedMemory memory_;
};

/// One T that processes read and change without a lock: as std::atomic, sequentially consistent. A process that is
/// killed leaves it before a change or after it.
template <class T>
class SharedValue {
  static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>, "shared memory holds plain data");
  static_assert(
      std::atomic<T>::is_always_lock_free,
      "an atomic of this type has a lock, and that lock would not be shared: use a ProcessLock and SharedMemory");

 public:
  /// Throws std::system_error.
  explicit SharedValue(T value = T()) : memory_(sizeof(std::atomic<T>)) {
    ::new (static_cast<void*>(memory_.data())) std::atomic<T>(value);
  }
  /// One that was received. Throws std::system_error when it is too small.
  explicit SharedValue(SharedMemory memory) : memory_(std::move(memory)) {
    if (memory_.size() < sizeof(std::atomic<T>)) {
      throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                              "take a SharedMemory as a SharedValue");
    }
  }

  [[nodiscard]] std::atomic<T>& atomic() const noexcept { return memory_.template as<std::atomic<T>>(); }
  [[nodiscard]] T load() const noexcept { return atomic().load(); }
  void store(T value) const noexcept { atomic().store(value); }
  /// Returns what was there before.
  T exchange(T value) const noexcept { return atomic().exchange(value); }
  /// Whether it was `expected`, and now is `desired`; otherwise `expected` is what it is.
  bool compare_exchange(T& expected, T desired) const noexcept {
    return atomic().compare_exchange_strong(expected, desired);
  }
  [[nodiscard]] const SharedMemory& memory() const noexcept { return memory_; }

 private:
  SharedMemory memory_;
};

/// Counts for all processes.
class SharedCounter : public SharedValue<std::int64_t> {
 public:
  using SharedValue::SharedValue;
  /// Returns what it is now.
  std::int64_t add(std::int64_t by) const noexcept { return atomic().fetch_add(by) + by; }
  std::int64_t operator++() const noexcept { return add(1); }
  std::int64_t operator--() const noexcept { return add(-1); }
  [[nodiscard]] std::int64_t get() const noexcept { return load(); }
};

}  // namespace bight
