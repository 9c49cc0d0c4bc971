// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <type_traits>
#include <utility>

#include <bight/fiber.hpp>

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
class Scope {
 public:
  Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  ~Scope() noexcept(false);

  /// As bight::spawn, inside this scope. May be called from any fiber of the loop, as long as the scope is not left.
  template <detail::Spawnable F>
  Fiber<detail::ResultOf<F>> spawn(F&& f, detail::CallSite site = detail::CallSite::here()) {
    return start<detail::ResultOf<F>>(detail::plan_for<F>(site), std::forward<F>(f));
  }
  template <detail::Spawnable F, class First, class... Rest>
  requires std::is_invocable_v<std::decay_t<F>, std::decay_t<First>, std::decay_t<Rest>...>
      Fiber<detail::ResultOf<F, First, Rest...>> spawn(F&& f, First&& first, Rest&&... rest) {
    return start<detail::ResultOf<F, First, Rest...>>(detail::plan_here<F>(), std::forward<F>(f),
                                                      std::forward<First>(first), std::forward<Rest>(rest)...);
  }
  template <class F>
  Fiber<detail::ResultOf<F>> spawn(const SpawnOptions& options, F&& f,
                                   detail::CallSite site = detail::CallSite::here()) {
    return start<detail::ResultOf<F>>(detail::plan_for<F>(options, site), std::forward<F>(f));
  }
  template <class F, class First, class... Rest>
  requires std::is_invocable_v<std::decay_t<F>, std::decay_t<First>, std::decay_t<Rest>...>
      Fiber<detail::ResultOf<F, First, Rest...>> spawn(const SpawnOptions& options, F&& f, First&& first,
                                                       Rest&&... rest) {
    return start<detail::ResultOf<F, First, Rest...>>(detail::plan_for<F>(options), std::forward<F>(f),
                                                      std::forward<First>(first), std::forward<Rest>(rest)...);
  }

  /// Waits until all fibers have ended, those they spawned here meanwhile included; then throws the first error, if
  /// there was one.
  void join();

  /// Waits, without throwing and without being cancelled itself, until all fibers have ended or `when` has come.
  /// Whether they have.
  [[nodiscard]] bool wait_until(TimePoint when) noexcept;

  /// Cancels all fibers of the scope, and those yet to come.
  void cancel() noexcept { cancel_scope_.cancel(); }

  /// How many fibers have not ended.
  [[nodiscard]] std::size_t size() const noexcept { return alive_; }

 private:
  friend void detail::join_scope(detail::FiberControl&, Scope&) noexcept;
  friend void detail::leave_scope(detail::FiberControl&) noexcept;

  template <class R, class F, class... Args>
  Fiber<R> start(const detail::SpawnPlan& plan, F&& f, Args&&... args) {
    return detail::start<R>(plan, this, std::forward<F>(f), std::forward<Args>(args)...);
  }

  void wait_all() noexcept;
  void child_ended(detail::FiberControl& fiber) noexcept;

  detail::CancelScope cancel_scope_;
  detail::FiberControl* owner_;
  detail::WaitList waiters_;
  std::exception_ptr error_;
  std::size_t alive_ = 0;
  int uncaught_at_start_;
};

}  // namespace bight
