// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>

#include <bight/detail/fiber_owner.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

namespace bight {

/// Owns fibers: none of them outlives it. A local variable, used and left in the order of the block structure.
///
///     Scope scope;
///     scope.spawn(left);
///     scope.spawn(right);
///     scope.join();
///
/// - The fibers inherit the cancellation and the deadlines of the place where the Scope was made.
/// - The first error with which one of them ends cancels the others; join() rethrows it when all have ended. Later
/// errors are dropped,
///   as are Cancelled. (An error that someone collects by Fiber::get() counts as well.)
/// - Leaving the block joins. When an exception leaves the block, the fibers are cancelled and waited for, and that
/// exception goes on.
///   Otherwise the destructor throws what join() would: call join() where you want to catch it.
/// - When the waiting fiber is cancelled, the fibers are cancelled, waited for, and Cancelled is thrown.
class Scope : private detail::FiberOwner {
 public:
  Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() noexcept(false);

  /// As bight::spawn, inside this scope. May be called from any fiber of the loop, as long as the scope is not left.
  using FiberOwner::spawn;

  /// Waits until all fibers have ended, those they spawned here meanwhile included; then throws the first error, if
  /// there was one.
  void join();

  /// Waits, without throwing and without being cancelled itself, until all fibers have ended or `when` has come.
  /// Whether they have.
  [[nodiscard]] bool wait_until(TimePoint when) noexcept;

  /// Cancels all fibers of the scope, and those yet to come.
  void cancel() noexcept { cancel_scope().cancel(); }

  /// How many fibers have not ended.
  using FiberOwner::size;

 private:
  static void child_ended(FiberOwner& self, detail::FiberControl& fiber) noexcept;

  std::exception_ptr error_;
  int uncaught_at_start_;
};

}  // namespace bight
