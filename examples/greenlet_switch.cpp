// SPDX-License-Identifier: Apache-2.0
// The first program of greenlet's documentation: two functions that hand control to each other. Prints 12, 56, 34, 78.

#include <cstdio>
#include <string>

#include <bight/coroutine.hpp>
#include <bight/run.hpp>

int main() {
  return bight::run([] {
    using Greenlet = bight::Coroutine<void, void>;
    Greenlet second;
    Greenlet first([&second](auto& self) {
      std::puts("12");
      self.transfer(second);  // greenlet: second.switch()
      std::puts("34");
      self.transfer(second);
      std::puts("never reached: nobody comes back");
    });
    second = Greenlet([&first](auto& self) {
      std::puts("56");
      self.transfer(first);
      std::puts("78");  // its end is the resumer's turn
    });
    first.resume();
    std::printf("first %s, second %s\n", first.done() ? "has ended" : "is suspended",
                second.done() ? "has ended" : "is suspended");

    // Values go both ways.
    bight::Coroutine<std::string, std::size_t> length([](auto& self, std::string text) {
      while (!text.empty()) text = self.yield(text.size());
      return std::size_t{0};
    });
    const std::size_t three = length.resume("abc");
    const std::size_t five = length.resume("hello");
    std::printf("%zu %zu %zu\n", three, five, length.resume(""));
  });
}
