// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace bight::detail {

/// A move-only `void()` that keeps callables of up to 40 bytes in place (std::move_only_function is C++23, and
/// std::function wants copies). Called at most once.
class Callback {
 public:
  Callback() noexcept = default;

  template <class F>
  static constexpr bool kAccepts =
      !std::is_same_v<std::remove_cvref_t<F>, Callback> && std::is_invocable_v<std::decay_t<F>&>;

  template <class F>
  requires kAccepts<F>
  // NOLINTNEXTLINE(google-explicit-constructor): callables convert, as into std::function
  Callback(F&& function) {
    using Held = std::decay_t<F>;
    if constexpr (sizeof(Held) <= kInline && alignof(Held) <= alignof(std::max_align_t) &&
                  std::is_nothrow_move_constructible_v<Held>) {
      ::new (storage()) Held(std::forward<F>(function));
      operations_ = &kInPlace<Held>;
    } else {
      ::new (storage()) Held*(new Held(std::forward<F>(function)));
      operations_ = &kOnHeap<Held>;
    }
  }

  Callback(Callback&& other) noexcept { take(other); }
  Callback& operator=(Callback&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~Callback() { reset(); }

  explicit operator bool() const noexcept { return operations_ != nullptr; }
  void operator()() { operations_->call(storage()); }

 private:
  static constexpr std::size_t kInline = 40;

  struct Operations {
    void (*call)(void*);
    void (*move)(void* from, void* to) noexcept;
    void (*destroy)(void*) noexcept;
  };

  template <class Held>
  static constexpr Operations kInPlace{[](void* held) { (*static_cast<Held*>(held))(); },
                                       [](void* from, void* to) noexcept {
                                         ::new (to) Held(std::move(*static_cast<Held*>(from)));
                                         static_cast<Held*>(from)->~Held();
                                       },
                                       [](void* held) noexcept { static_cast<Held*>(held)->~Held(); }};

  template <class Held>
  static constexpr Operations kOnHeap{
      [](void* held) { (**static_cast<Held**>(held))(); },
      [](void* from, void* to) noexcept { ::new (to) Held*(*static_cast<Held**>(from)); },
      [](void* held) noexcept { delete *static_cast<Held**>(held); }};

  void* storage() noexcept { return storage_; }
  void take(Callback& other) noexcept {
    operations_ = std::exchange(other.operations_, nullptr);
    if (operations_ != nullptr) operations_->move(other.storage(), storage());
  }
  void reset() noexcept {
    if (operations_ != nullptr) std::exchange(operations_, nullptr)->destroy(storage());
  }

  const Operations* operations_ = nullptr;
  alignas(std::max_align_t) std::byte storage_[kInline];
};

}  // namespace bight::detail
