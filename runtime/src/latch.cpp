// SPDX-License-Identifier: Apache-2.0
#include <bight/latch.hpp>
#include <bight/wait_group.hpp>

#include <bight/check.hpp>

namespace bight {

Latch::Latch(std::ptrdiff_t expected) : left_(expected) {
  BIGHT_CHECK(expected >= 0, "a Latch can not expect less than nothing");
  if (left_ == 0) open_.set();
}

void Latch::count_down(std::ptrdiff_t by) noexcept {
  BIGHT_CHECK(by >= 0 && by <= left_, "a Latch is counted down below zero");
  left_ -= by;
  if (left_ == 0) open_.set();
}

void WaitGroup::add(std::ptrdiff_t by) noexcept {
  BIGHT_CHECK(by >= -count_, "a WaitGroup is counted below zero");
  count_ += by;
  if (count_ == 0) {
    none_.set();
  } else {
    none_.clear();
  }
}

}  // namespace bight
