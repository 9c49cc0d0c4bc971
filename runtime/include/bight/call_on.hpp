// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include <bight/detail/cross_waiter.hpp>
#include <bight/detail/remote_wake.hpp>
#include <bight/detail/returned.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>

namespace bight {

namespace detail {

/// A call to another loop, in the caller's frame.
class RemoteCall {
 public:
  using Body = void (*)(RemoteCall&) noexcept;
  explicit RemoteCall(Body body) noexcept : body_(body) {}
  RemoteCall(const RemoteCall&) = delete;
  RemoteCall& operator=(const RemoteCall&) = delete;

  /// Runs the body in a fiber there and waits until that fiber is done with it. Throws Cancelled (then nothing has been
  /// begun), std::system_error and std::bad_alloc.
  void perform(const Remote& remote);
  /// Why the body has not run or has no result: throws that.
  [[noreturn]] void fail() const;

 private:
  class Ticket;
  struct CancelWake;

  void start_fiber(Ticket ticket) noexcept;
  void finish() noexcept;
  void cancel(const Remote& remote) noexcept;

  Body body_;
  CrossWaiter done_{"the end of a call to another loop"};
  std::exception_ptr error_;  // why there is no fiber
  Fiber<> fiber_;             // that loop's
  bool launched_ = false;
  bool cancelled_ = false;  // by the caller
};

}  // namespace detail

/// Runs `f()` in a fiber of the loop that `remote` leads to and waits here, in a fiber of another loop (or of the same
/// one) or in a thread without one, for what it returns or throws. Not from callbacks. Allocates as Remote::post and
/// spawn do, and costs a wake-up each way.
///
/// When the caller is cancelled, the fiber there is, too, and its end is waited for; so `f` may refer to the caller's
/// variables in any case. Then throws Cancelled, or returns the result if there is one all the same (and the next wait
/// throws). FiberCancelled: the fiber was cancelled by someone else, say, the end of its loop. std::system_error:
/// no_such_process, that loop has ended; what Remote::post and spawn throw.
template <class F>
std::invoke_result_t<F> call_on(const Remote& remote, F&& f) {
  using R = std::invoke_result_t<F>;
  struct Call : detail::RemoteCall {
    explicit Call(std::remove_reference_t<F>& what) noexcept
        : RemoteCall([](RemoteCall& self) noexcept {
            auto& call = static_cast<Call&>(self);
            call.returned.fill(std::forward<F>(call.callable));
          }),
          callable(what) {}
    std::remove_reference_t<F>& callable;
    detail::Returned<R> returned;
  } call(f);
  call.perform(remote);
  call.returned.rethrow();
  if (!call.returned.has_value()) call.fail();
  if constexpr (!std::is_void_v<R>) return call.returned.take();
}

}  // namespace bight
