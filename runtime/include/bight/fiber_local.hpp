// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

namespace bight {

namespace detail {
/// A key that no FiberLocal has had before. Any thread.
[[nodiscard]] std::uint64_t new_local_key() noexcept;
/// This fiber's value under `key` (null if it has none yet), and its setting. A linear search: a fiber has a handful of
/// them at most.
[[nodiscard]] void* find_local(std::uint64_t key) noexcept;
void set_local(std::uint64_t key, void* value, void (*destroy)(void*) noexcept);
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
    if (void* found = detail::find_local(key_)) return *static_cast<T*>(found);
    auto made = std::make_unique<T>();
    T& value = *made;
    detail::set_local(key_, &value, [](void* held) noexcept { delete static_cast<T*>(held); });
    made.release();  // NOLINT(bugprone-unused-return-value): the fiber owns it now
    return value;
  }

  /// Whether this fiber has one already.
  [[nodiscard]] bool exists() const noexcept { return detail::find_local(key_) != nullptr; }

 private:
  const std::uint64_t key_ = detail::new_local_key();  // not its address, which another one may have later
};

}  // namespace bight
