// SPDX-License-Identifier: Apache-2.0
#include <bight/scope.hpp>

#include <exception>
#include <string>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {
namespace {

struct ScopeParking : detail::Parking {
  static const detail::ParkingKind kPatient;
  static const detail::ParkingKind kCancellable;
  ScopeParking(detail::FiberControl& who, const detail::ParkingKind& how, const Scope& joined,
               detail::WaitList& waiters) noexcept
      : Parking(who, how), scope(joined), list(waiters) {}
  const Scope& scope;
  detail::WaitList& list;
};

void interrupt_join(detail::Parking& parking) noexcept {
  static_cast<ScopeParking&>(parking).list.remove(parking);
  parking.fiber->loop->make_ready(*parking.fiber);
}

void describe_join(const detail::Parking& parking, std::string& text) {
  const Scope& scope = static_cast<const ScopeParking&>(parking).scope;
  text.append("the ").append(std::to_string(scope.size())).append(" fibers of its Scope");
}

/// Not to be cut short: a Scope is left only when its fibers have ended.
const detail::ParkingKind ScopeParking::kPatient{nullptr, describe_join};
const detail::ParkingKind ScopeParking::kCancellable{interrupt_join, describe_join};

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
    ScopeParking parking(self, ScopeParking::kCancellable, *this, waiters_);
    waiters_.push(parking);
    detail::Loop::require().park(parking);
  }
  if (alive_ > 0) cancel();
  wait_all();
  if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
  if (self.cancel_pending()) throw Cancelled{};
}

void Scope::wait_all() noexcept {
  detail::Loop& loop = detail::Loop::require();
  while (alive_ > 0) {
    ScopeParking parking(loop.require_fiber(), ScopeParking::kPatient, *this, waiters_);
    waiters_.push(parking);
    loop.park(parking);
  }
}

bool Scope::wait_until(TimePoint when) noexcept {
  detail::Loop& loop = detail::Loop::require();
  struct Expiry : detail::Timer {
    explicit Expiry(detail::WaitList& list, detail::Loop& its_loop) noexcept
        : Timer([](Timer& timer) noexcept {
            auto& self = static_cast<Expiry&>(timer);
            self.waiters.wake_all(self.loop);
          }),
          waiters(list),
          loop(its_loop) {}
    detail::WaitList& waiters;
    detail::Loop& loop;
  } expiry(waiters_, loop);
  loop.timers().arm(expiry, when);
  while (alive_ > 0 && expiry.armed()) {
    ScopeParking parking(loop.require_fiber(), ScopeParking::kPatient, *this, waiters_);
    waiters_.push(parking);
    loop.park(parking);
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
  if (alive_ == 0) waiters_.wake_all(*fiber.loop);
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
