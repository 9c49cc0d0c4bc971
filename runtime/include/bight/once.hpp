// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <utility>

#include <bight/mutex.hpp>

namespace bight {

/// Has something done once, at first use, though it waits: std::call_once for the fibers of one loop.
class Once {
 public:
  /// Calls `f(args...)` unless a call has succeeded before; returns when one has. Others who come meanwhile wait. If
  /// `f` throws, its caller gets the exception and the next one tries. To call it from within `f` aborts with a
  /// sentence. Throws Cancelled if it has to wait.
  template <class F, class... Args>
  void call(F&& f, Args&&... args) {
    if (done_) [[likely]]
      return;
    const std::lock_guard turn(mutex_);
    if (done_) return;
    std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
    done_ = true;
  }
  [[nodiscard]] bool done() const noexcept { return done_; }

 private:
  bool done_ = false;
  Mutex mutex_;
};

}  // namespace bight
