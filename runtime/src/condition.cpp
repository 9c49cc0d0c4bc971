// SPDX-License-Identifier: Apache-2.0
#include <bight/condition.hpp>

#include <string>

#include <bight/check.hpp>

namespace bight {
namespace {

void describe_condition(const detail::WaitLink&, std::string& text) { text += "a Condition's notification"; }

}  // namespace

Condition::~Condition() { BIGHT_CHECK(waiters_.empty(), "a Condition is destroyed while fibers wait for it"); }

void Condition::notify(std::size_t count) noexcept {
  bound_.enter();
  while (count > 0 && waiters_.wake_one()) --count;
}

detail::WaitEnd Condition::wait_notified(TimePoint until) noexcept {
  detail::WaitLink link;
  return detail::wait_in(waiters_, link, describe_condition, until);
}

}  // namespace bight
