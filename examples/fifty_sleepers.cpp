// SPDX-License-Identifier: Apache-2.0
// Fifty fibers sleep at once. That takes about as long as one sleep, not fifty.

#include <chrono>
#include <cstdio>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

using namespace std::chrono_literals;

int main() {
  return bight::run([] {
    constexpr int kSleepers = 50;
    constexpr auto kSleep = 50ms;

    const bight::TimePoint start = bight::now();
    int rested = 0;  // counted by many fibers, but never by two at the same time
    bight::Scope dormitory;
    for (int i = 0; i < kSleepers; ++i) {
      dormitory.spawn([&] {
        bight::sleep_for(kSleep);
        ++rested;
      });
    }
    dormitory.join();
    const bight::Duration total = bight::now() - start;

    std::printf("%d fibers have slept\n", rested);
    std::printf("the total was at least one sleep: %s\n", total >= kSleep ? "yes" : "no");
    std::printf("the total was less than ten sleeps: %s\n", total < 10 * kSleep ? "yes" : "no");
  });
}
