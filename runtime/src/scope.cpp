// SPDX-License-Identifier: Apache-2.0
#include <bight/scope.hpp>

#include <exception>
#include <string>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {
namespace {

struct ScopeLink : detail::WaitLink {
  explicit ScopeLink(const Scope& joined) noexcept : scope(joined) {}
  const Scope& scope;
};

void describe_join(const detail::WaitLink& link, std::string& text) {
  const Scope& scope = static_cast<const ScopeLink&>(link).scope;
  text.append("the ").append(std::to_string(scope.size())).append(" fibers of its Scope");
}

}  // namespace

Scope::Scope() : owner_(&detail::Loop::require().require_fiber()), uncaught_at_start_(std::uncaught_exceptions()) {
  cancel_scope_.attach(owner_->scope);
}

Scope::~Scope() noexcept(false) {
  const bool unwinding = std::uncaught_exceptions() > uncaught_at_start_;
  if (unwinding) {
    cancel();
    wait_all();
  }
  try {
    if (!unwinding) join();
  } catch (...) {
    cancel_scope_.detach();
    throw;
  }
  cancel_scope_.detach();
}

void Scope::join() {
  detail::FiberControl& self = detail::Loop::require().require_fiber();
  // Who waits need not be above the fibers in the tree of scopes: it may be another fiber than the owner, or in a
  // deadline of its own. So its cancellation is passed on here.
  while (alive_ > 0 && !self.cancel_pending()) {
    ScopeLink link(*this);
    static_cast<void>(detail::wait_in(waiters_, link, describe_join));
  }
  if (alive_ > 0) cancel();
  wait_all();
  if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
  if (self.cancel_pending()) throw Cancelled{};
}

void Scope::wait_all() noexcept {
  while (alive_ > 0) {  // a Scope is left only when its fibers have ended
    ScopeLink link(*this);
    detail::wait_uncancelled(waiters_, link, describe_join);
  }
}

bool Scope::wait_until(TimePoint when) noexcept {
  detail::Loop& loop = detail::Loop::require();
  struct Expiry : detail::Timer {
    explicit Expiry(detail::WaitList& list) noexcept
        : Timer([](Timer& timer) noexcept {
            auto& self = static_cast<Expiry&>(timer);
            self.waiters.wake_all();
          }),
          waiters(list) {}
    detail::WaitList& waiters;
  } expiry(waiters_);
  loop.timers().arm(expiry, when);
  while (alive_ > 0 && expiry.armed()) {
    ScopeLink link(*this);
    detail::wait_uncancelled(waiters_, link, describe_join);
  }
  loop.timers().disarm(expiry);
  return alive_ == 0;
}

void Scope::child_ended(detail::FiberControl& fiber) noexcept {
  --alive_;
  if (fiber.error != nullptr) {
    fiber.observed = true;
    if (error_ == nullptr) {
      error_ = fiber.error;
      cancel();
    }
  }
  if (alive_ == 0) waiters_.wake_all();
}

namespace detail {

void join_scope(FiberControl& fiber, Scope& owner) noexcept {
  fiber.owner = &owner;
  fiber.root.attach(&owner.cancel_scope_);
  ++owner.alive_;
}

void leave_scope(FiberControl& fiber) noexcept {
  fiber.root.detach();
  std::exchange(fiber.owner, nullptr)->child_ended(fiber);
}

}  // namespace detail
}  // namespace bight
