// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/ring.hpp>

#include <limits>
#include <memory>
#include <new>
#include <utility>

#include <gtest/gtest.h>

namespace bight {
namespace {

using detail::Ring;

TEST(Ring, GrowsInOrderWhereverItBegins) {
  for (int offset = 0; offset < 20; ++offset) {
    Ring<std::unique_ptr<int>> ring;
    int pushed = 0;
    int popped = 0;
    const auto push = [&] { ring.push(std::make_unique<int>(pushed++)); };
    const auto pop = [](Ring<std::unique_ptr<int>>& from) {
      const int value = *from.front();
      from.pop();
      return value;
    };
    for (int i = 0; i < offset; ++i) push();
    for (int i = 0; i < offset; ++i) EXPECT_EQ(pop(ring), popped++);
    for (int i = 0; i < 100; ++i) push();
    EXPECT_EQ(ring.size(), 100U);
    for (int i = 0; i < 60; ++i) EXPECT_EQ(pop(ring), popped++);
    Ring<std::unique_ptr<int>> other;
    other.swap(ring);
    EXPECT_TRUE(ring.empty());
    while (!other.empty()) EXPECT_EQ(pop(other), popped++);
    EXPECT_EQ(popped, pushed);
  }
}

TEST(Ring, WhatIsLeftIsDestroyed) {
  auto token = std::make_shared<int>(0);
  {
    Ring<std::shared_ptr<int>> ring;
    ring.reserve(3);
    for (int i = 0; i < 3; ++i) ring.push(std::shared_ptr<int>(token));
    EXPECT_EQ(token.use_count(), 4);
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Ring, AnAbsurdSizeIsRefused) {
  Ring<int> ring;
  EXPECT_THROW(ring.reserve(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace bight
