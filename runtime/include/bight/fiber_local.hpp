// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

namespace bight {

namespace detail {
/// This fiber's value under `key` (null if it has none yet), and its setting. A linear search: a fiber has a handful of
/// them at most.
[[nodiscard]] void* find_local(const void* key) noexcept;
void set_local(const void* key, void* value, void (*destroy)(void*) noexcept);
}  // namespace detail

/// A variable of which every fiber has its own, made at first use and ended with the fiber (even while handles on the
/// ended fiber exist). thread_local, by contrast, is shared by all fibers of the thread. Usually a static or
/// namespace-scope object; use from fibers only.
template <class T>
class FiberLocal {
 public:
  FiberLocal() = default;
  FiberLocal(const FiberLocal&) = delete;
  FiberLocal& operator=(const FiberLocal&) = delete;

  T& operator*() const { return get(); }
  T* operator->() const { return &get(); }

  T& get() const {
    if (void* found = detail::find_local(this)) return *static_cast<T*>(found);
    auto made = std::make_unique<T>();
    T& value = *made;
    detail::set_local(this, &value, [](void* held) noexcept { delete static_cast<T*>(held); });
    made.release();  // NOLINT(bugprone-unused-return-value): the fiber owns it now
    return value;
  }

  /// Whether this fiber has one already.
  [[nodiscard]] bool exists() const noexcept { return detail::find_local(this) != nullptr; }
};

}  // namespace bight
