// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>

#include <bight/detail/fiber_owner.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

namespace bight {

/// Owns fibers that are independent of each other, as the connections of a server are: an error of one does not cancel
/// the others (in a Scope it does). Members leave it when they end. A local variable, used and left in the order of the
/// block structure; its fibers inherit the cancellation and the deadlines of the place where it was made.
///
/// Leaving the block cancels the fibers and waits for them; to let them finish, join() first. Errors are kept, so
/// destroying a Group with errors that nobody has asked for by join() reports the first one.
class Group : private detail::FiberOwner {
 public:
  Group() : FiberOwner(child_ended) {}
  ~Group();

  /// As bight::spawn, as a member. May be called from any fiber of the loop, as long as the Group is not left.
  using FiberOwner::spawn;

  /// Waits until it is empty; members that are spawned meanwhile count. Then throws the first error, in time, with
  /// which a member has ended since the last join(), if there was one; later ones are dropped. When the caller is
  /// cancelled, throws Cancelled, and the members go on.
  void join();
  /// Waits for `limit` at most, and does not throw members' errors. Whether it was empty. Throws Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(const std::chrono::duration<Rep, Period>& limit) {
    return join_until(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  [[nodiscard]] bool join_until(TimePoint when);

  /// Cancels the present members; those who come later are not concerned. Does not wait: join() does. A member that
  /// does not end is waited for.
  void cancel_all() noexcept { cancel_scope().cancel_children(); }

  /// How many members have not ended.
  using FiberOwner::size;
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// How many have ended with an error, ever.
  [[nodiscard]] std::size_t failures() const noexcept { return failures_; }
  /// The first error since the last join(), or null.
  [[nodiscard]] std::exception_ptr first_error() const noexcept { return error_; }

 private:
  static void child_ended(FiberOwner& self, detail::FiberControl& fiber) noexcept;

  std::exception_ptr error_;
  std::size_t failures_ = 0;
};

}  // namespace bight
