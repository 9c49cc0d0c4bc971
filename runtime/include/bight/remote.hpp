// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <bight/detail/callback.hpp>

namespace bight {

namespace detail {
class RemoteCall;
class RemoteQueue;
}  // namespace detail

/// The one door into a loop for other threads. Made on the loop's thread; copies may be used and dropped anywhere, also
/// after the loop has ended. While one exists the loop does not take itself for deadlocked.
class Remote {
 public:
  /// The calling thread's loop's.
  Remote();
  Remote(const Remote& other) noexcept;
  Remote(Remote&& other) noexcept = default;
  Remote& operator=(Remote other) noexcept;
  ~Remote();

  /// Has `callback` run on the loop's thread, outside any fiber: it may spawn and make fibers ready, but not wait.
  /// Callbacks run in the order in which they were posted; what the poster did before is visible to the callback. One
  /// that throws is reported. False, and the callback is dropped, if the loop has ended; a loop ends only when it has
  /// run all that was posted. Any thread; not a signal handler. Costs a short lock, and one write(2) if the loop
  /// sleeps. Throws std::system_error (resource_unavailable_try_again) while RunOptions::posts_max callbacks wait, and
  /// std::bad_alloc.
  bool post(detail::Callback callback) const;

 private:
  friend class detail::RemoteCall;

  std::shared_ptr<detail::RemoteQueue> queue_;
};

}  // namespace bight
