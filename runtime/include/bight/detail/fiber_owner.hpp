// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <bight/detail/cancel_scope.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/fiber.hpp>

namespace bight::detail {

/// What a Scope and a Group have in common: it counts fibers that were spawned in it, and they are below it in the tree
/// of cancellation. Belongs to the fiber that makes it, as a local variable.
class FiberOwner {
 public:
  FiberOwner(const FiberOwner&) = delete;
  FiberOwner& operator=(const FiberOwner&) = delete;

  template <Spawnable F>
  Fiber<ResultOf<F>> spawn(F&& f, CallSite site = CallSite::here()) {
    return start<ResultOf<F>>(plan_for<F>(site), this, std::forward<F>(f));
  }
  template <Spawnable F, class First, class... Rest>
  requires std::is_invocable_v<std::decay_t<F>, std::decay_t<First>, std::decay_t<Rest>...>
      Fiber<ResultOf<F, First, Rest...>> spawn(F&& f, First&& first, Rest&&... rest) {
    return start<ResultOf<F, First, Rest...>>(plan_here<F>(), this, std::forward<F>(f), std::forward<First>(first),
                                              std::forward<Rest>(rest)...);
  }
  template <class F>
  Fiber<ResultOf<F>> spawn(const SpawnOptions& options, F&& f, CallSite site = CallSite::here()) {
    return start<ResultOf<F>>(plan_for<F>(options, site), this, std::forward<F>(f));
  }
  template <class F, class First, class... Rest>
  requires std::is_invocable_v<std::decay_t<F>, std::decay_t<First>, std::decay_t<Rest>...>
      Fiber<ResultOf<F, First, Rest...>> spawn(const SpawnOptions& options, F&& f, First&& first, Rest&&... rest) {
    return start<ResultOf<F, First, Rest...>>(plan_for<F>(options), this, std::forward<F>(f),
                                              std::forward<First>(first), std::forward<Rest>(rest)...);
  }

  /// How many fibers have not ended.
  [[nodiscard]] std::size_t size() const noexcept { return alive_; }

  // For the runtime: a fiber begins and ends.
  void admit(FiberControl& fiber) noexcept;
  void dismiss(FiberControl& fiber) noexcept;

 protected:
  /// `ended` is told of each fiber that has, while it can still be looked at.
  explicit FiberOwner(void (*ended)(FiberOwner&, FiberControl&) noexcept);
  ~FiberOwner();

  [[nodiscard]] CancelScope& cancel_scope() noexcept { return cancel_scope_; }
  /// Parks until there is none, or `until`; may be woken early. Does not throw.
  [[nodiscard]] WaitEnd wait_some(TimePoint until) noexcept;
  /// Parks until there is none, whatever is cancelled.
  void wait_all() noexcept;

 private:
  void (*ended_)(FiberOwner&, FiberControl&) noexcept;
  CancelScope cancel_scope_;
  WaitList waiters_;
  std::size_t alive_ = 0;
};

}  // namespace bight::detail
