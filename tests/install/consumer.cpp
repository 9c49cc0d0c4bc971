// SPDX-License-Identifier: Apache-2.0
// A stranger's program: what is installed is all it has.
#include <cstdio>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

int main() {
  return bight::run([] {
    auto greeting = bight::spawn([] {
      bight::sleep_for(std::chrono::milliseconds(1));
      return "hello from a fiber";
    });
    std::puts(greeting.get());
  });
}
