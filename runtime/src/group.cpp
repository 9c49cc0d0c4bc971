// SPDX-License-Identifier: Apache-2.0
#include <bight/group.hpp>

#include <utility>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {

Group::~Group() {
  cancel_scope().cancel();
  wait_all();
  if (error_ != nullptr) detail::Loop::require().report_unhandled(error_, 0, "a Group that was not joined");
}

void Group::join() {
  static_cast<void>(join_until(TimePoint::max()));
  if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
}

bool Group::join_until(TimePoint when) {
  while (size() > 0) {
    switch (wait_some(when)) {
      case detail::WaitEnd::cancelled: throw Cancelled{};
      case detail::WaitEnd::timed_out: return false;
      case detail::WaitEnd::woken: break;
    }
  }
  return true;
}

void Group::child_ended(FiberOwner& owner, detail::FiberControl& fiber) noexcept {
  if (fiber.error == nullptr) return;
  auto& self = static_cast<Group&>(owner);
  fiber.observed = true;
  ++self.failures_;
  if (self.error_ == nullptr) self.error_ = fiber.error;
}

}  // namespace bight
