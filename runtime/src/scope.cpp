// SPDX-License-Identifier: Apache-2.0
#include <bight/scope.hpp>

#include <exception>

#include <bight/deadline.hpp>
#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {

Scope::Scope() : FiberOwner(child_ended), uncaught_at_start_(std::uncaught_exceptions()) {}

Scope::~Scope() noexcept(false) {
  if (std::uncaught_exceptions() > uncaught_at_start_) {
    cancel();
    wait_all();
  } else {
    join();
  }
}

void Scope::join() {
  detail::FiberControl& self = detail::Loop::require().require_fiber();
  // Who waits need not be above the fibers in the tree of scopes: it may be another fiber than the owner, or in a
  // deadline of its own. So its cancellation is passed on here.
  while (size() > 0 && !self.cancel_pending()) static_cast<void>(wait_some(TimePoint::max()));
  if (size() > 0) cancel();
  wait_all();
  if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
  if (self.cancel_pending()) throw Cancelled{};
}

bool Scope::wait_until(TimePoint when) noexcept {
  const Shield shield;
  while (size() > 0 && wait_some(when) == detail::WaitEnd::woken) {
  }
  return size() == 0;
}

void Scope::child_ended(FiberOwner& owner, detail::FiberControl& fiber) noexcept {
  if (fiber.error == nullptr) return;
  auto& self = static_cast<Scope&>(owner);
  fiber.observed = true;
  if (self.error_ != nullptr) return;
  self.error_ = fiber.error;
  self.cancel();
}

}  // namespace bight
