// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/fiber_owner.hpp>

#include <string>
#include <utility>

#include "loop.hpp"

namespace bight::detail {
namespace {

struct OwnerLink : WaitLink {
  explicit OwnerLink(const FiberOwner& joined) noexcept : owner(joined) {}
  const FiberOwner& owner;
};

void describe_join(const WaitLink& link, std::string& text) {
  const FiberOwner& owner = static_cast<const OwnerLink&>(link).owner;
  text.append("the ").append(std::to_string(owner.size())).append(" fibers that it owns");
}

}  // namespace

FiberOwner::FiberOwner(void (*ended)(FiberOwner&, FiberControl&) noexcept) : ended_(ended) {
  cancel_scope_.attach(Loop::require().require_fiber().scope);
}

FiberOwner::~FiberOwner() { cancel_scope_.detach(); }

void FiberOwner::admit(FiberControl& fiber) noexcept {
  fiber.owner = this;
  fiber.root.attach(&cancel_scope_);
  ++alive_;
}

void FiberOwner::dismiss(FiberControl& fiber) noexcept {
  fiber.root.detach();
  fiber.owner = nullptr;
  --alive_;
  ended_(*this, fiber);
  if (alive_ == 0) waiters_.wake_all();
}

WaitEnd FiberOwner::wait_some(TimePoint until) noexcept {
  OwnerLink link(*this);
  return wait_in(waiters_, link, describe_join, until);
}

void FiberOwner::wait_all() noexcept {
  while (alive_ > 0) {
    OwnerLink link(*this);
    wait_uncancelled(waiters_, link, describe_join);
  }
}

}  // namespace bight::detail
